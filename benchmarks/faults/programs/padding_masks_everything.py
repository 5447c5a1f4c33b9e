"""A classifier of event sequences gives NaN for some batches: one customer has no event at all.

Source: https://github.com/pytorch/pytorch/issues/41508 (attention with a row that is fully masked).
Added: 2026-11-28. Rules changed because of it: none.
"""

import torch
import torch.nn.functional as F
from lightning import LightningModule, Trainer, seed_everything
from torch import nn
from torch.utils.data import DataLoader, Dataset

DIAGNOSES = ("nonfinite-activation",)
PLACE = "softmax"
PRESET = "standard"


class Events(Dataset):
    def __init__(self):
        self.lengths = torch.randint(1, 12, (500,))
        self.lengths[233] = 0
        self.tokens = [torch.randint(1, 40, (n,)) for n in self.lengths]
        self.labels = torch.tensor([int((t < 12).float().mean() > 0.3) if len(t) else 0 for t in self.tokens])

    def __len__(self):
        return len(self.tokens)

    def __getitem__(self, index):
        return {"tokens": F.pad(self.tokens[index], (0, 12 - len(self.tokens[index]))), "label": self.labels[index]}


class Pooling(nn.Module):
    def __init__(self, mended):
        super().__init__()
        self.mended = mended
        self.query = nn.Linear(24, 1)

    def forward(self, states, padding):
        score = self.query(states).squeeze(-1).masked_fill(padding, -1e4 if self.mended else float("-inf"))
        return (score.softmax(-1).unsqueeze(-1) * states).sum(1)


class Churn(LightningModule):
    def __init__(self, mended):
        super().__init__()
        self.embed, self.pool, self.head = nn.Embedding(40, 24), Pooling(mended), nn.Linear(24, 2)

    def training_step(self, batch, batch_idx):
        pooled = self.pool(self.embed(batch["tokens"]), batch["tokens"] == 0)
        loss = F.cross_entropy(self.head(pooled), batch["label"])
        self.log("loss", loss, prog_bar=True)
        return loss

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-2)


def main(mended, seed):
    seed_everything(seed)
    trainer = Trainer(max_epochs=3, accelerator="cpu", enable_progress_bar=False, enable_model_summary=False)
    trainer.fit(Churn(mended), DataLoader(Events(), batch_size=25, shuffle=True))
