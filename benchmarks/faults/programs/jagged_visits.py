"""Patients have differing numbers of visits, packed into one long tensor with offsets; one weight is missing.

Source: https://stackoverflow.com/questions/53640858 (NaN in a column of the table).
Added: 2026-11-28. Rules changed because of it: none.
"""

import torch
from lightning import LightningModule, Trainer, seed_everything
from torch import nn
from torch.utils.data import DataLoader, Dataset

DIAGNOSES = ("nonfinite-input",)
PLACE = "214"
PRESET = "standard"


class Patients(Dataset):
    def __init__(self, mended):
        self.visits = [torch.randn(int(n), 4).cumsum(0) * 0.5 for n in torch.randint(1, 7, (300,))]
        self.risk = torch.stack([v[-1, 0] - v.mean() for v in self.visits])
        if not mended:
            self.visits[214][-1, 3] = float("nan")

    def __len__(self):
        return len(self.visits)

    def __getitem__(self, index):
        return {"visits": self.visits[index], "risk": self.risk[index]}


def pack(items):
    lengths = torch.tensor([len(item["visits"]) for item in items])
    return {
        "values": torch.cat([item["visits"] for item in items]),
        "offsets": torch.cat([torch.zeros(1, dtype=torch.long), lengths.cumsum(0)]),
        "risk": torch.stack([item["risk"] for item in items]),
    }


class Risk(LightningModule):
    def __init__(self):
        super().__init__()
        self.visit = nn.Sequential(nn.Linear(4, 32), nn.Tanh())
        self.head = nn.Linear(64, 1)

    def training_step(self, batch, batch_idx):
        hidden = self.visit(batch["values"])
        mean = torch.segment_reduce(hidden, "mean", offsets=batch["offsets"])
        last = hidden[batch["offsets"][1:] - 1]
        loss = (self.head(torch.cat([mean, last], 1)).squeeze(1) - batch["risk"]).square().mean()
        self.log("loss", loss, batch_size=len(batch["risk"]))
        return loss

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=5e-3)


def main(mended, seed):
    seed_everything(seed)
    loader = DataLoader(Patients(mended), batch_size=15, shuffle=True, collate_fn=pack)
    trainer = Trainer(max_epochs=3, accelerator="cpu", enable_progress_bar=False, enable_model_summary=False)
    trainer.fit(Risk(), loader)
