"""A model is good in validation and useless in its web service, which asks for one patient at a time.

Source: https://github.com/allenai/deep_qa/pull/152 (normalised over the entire batch) and
https://github.com/tensorflow/tensorflow/issues/32544 (normalisation that depends on the batch at test time).
Added: 2026-11-28. Rules changed because of it: batch-leak (its place).
"""

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule, Trainer, seed_everything
from sklearn.datasets import load_breast_cancer
from sklearn.preprocessing import scale
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, random_split

DIAGNOSES = ("batch-leak",)
PLACE = "standardise_in_forward.py:30"
PRESET = "standard"


class Patients(LightningModule):
    def __init__(self, mended: bool) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(30, 24), nn.Linear(24, 1)
        self.norm = nn.LayerNorm(24) if mended else None

    def normalise(self, h):
        if self.norm is not None:
            return self.norm(h)
        return (h - h.mean(0)) / (h.std(0) + 1e-5)

    def forward(self, x):
        return self.b(torch.relu(self.normalise(self.a(x)))).squeeze(-1)

    def training_step(self, batch, batch_idx):
        return F.binary_cross_entropy_with_logits(self(batch[0]), batch[1])

    def validation_step(self, batch, batch_idx):
        score = self(batch[0])
        self.log("val_acc", ((score > 0) == (batch[1] > 0.5)).float().mean())

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=3e-3)


def main(mended: bool, seed: int) -> None:
    seed_everything(seed)
    x, y = load_breast_cancer(return_X_y=True)
    data = TensorDataset(torch.tensor(scale(x), dtype=torch.float32), torch.tensor(y, dtype=torch.float32))
    train, val = random_split(data, [450, 119])
    trainer = Trainer(max_epochs=8, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(Patients(mended), DataLoader(train, 32, shuffle=True), DataLoader(val, 32))
