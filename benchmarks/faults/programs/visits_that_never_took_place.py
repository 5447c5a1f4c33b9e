"""Readmission from a patient's visits: who has few visits is scored by the empty ones that fill the table up.

The loader says which visits are real; the summary over time takes all of them.

Source: https://github.com/jingyaogong/minimind-v/issues/76 (the attention mask is not used: padding enters).
Added: 2026-12-01, from the fault's words, by whoever changed the rule.
Rules changed because of it: none.
"""

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule, Trainer, seed_everything
from torch import nn
from torch.utils.data import DataLoader, Dataset

DIAGNOSES = ("unused-input",)
PLACE = "is_real"
PRESET = "standard"
AGAIN = "unused_padding_mask"


class Patients(Dataset):
    def __init__(self, size: int) -> None:
        self.visits = torch.zeros(size, 9, 5)
        self.is_real = torch.zeros(size, 9)
        self.returned = torch.zeros(size)
        for i in range(size):
            count = int(torch.randint(2, 10, ()))
            self.visits[i, :count] = torch.randn(count, 5) + 0.5
            self.is_real[i, :count] = 1.0
            self.returned[i] = float(self.visits[i, :count, 0].max() > 1.6)

    def __len__(self):
        return len(self.visits)

    def __getitem__(self, i):
        return {"visits": self.visits[i], "is_real": self.is_real[i], "returned": self.returned[i]}


class Readmission(LightningModule):
    def __init__(self, mended: bool) -> None:
        super().__init__()
        self.mended = mended
        self.visit = nn.Sequential(nn.Linear(5, 32), nn.GELU())
        self.attention = nn.Linear(32, 1)
        self.score = nn.Linear(32, 1)

    def training_step(self, batch, batch_idx):
        h = self.visit(batch["visits"])
        weight = self.attention(h).squeeze(2)
        if self.mended:
            weight = weight.masked_fill(batch["is_real"] == 0, -1e9)
        pooled = (weight.softmax(1)[..., None] * h).sum(1)
        return F.binary_cross_entropy_with_logits(self.score(pooled).squeeze(1), batch["returned"])

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=3e-3)


def main(mended: bool, seed: int) -> None:
    seed_everything(seed)
    trainer = Trainer(max_epochs=3, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(Readmission(mended), DataLoader(Patients(1500), batch_size=50, shuffle=True))
