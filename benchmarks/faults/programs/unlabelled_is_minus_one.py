"""Unlabelled rows have class -1 in the file, and nll_loss says "Target -1 is out of bounds".

Source: https://github.com/EricFillion/happy-transformer/issues/248 (target -1).
Added: 2026-11-28. Rules changed because of it: none.
"""

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule, Trainer, seed_everything
from sklearn.datasets import load_iris
from sklearn.preprocessing import scale
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

DIAGNOSES = ("label-out-of-range",)
PLACE = "unlabelled_is_minus_one.py:28"
PRESET = "standard"


class Iris(LightningModule):
    def __init__(self, mended: bool) -> None:
        super().__init__()
        self.ignore = -1 if mended else -100
        self.net = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 3), nn.LogSoftmax(dim=1))

    def training_step(self, batch, batch_idx):
        x, y = batch
        return F.nll_loss(self.net(x), y, ignore_index=self.ignore)

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-2)


def main(mended: bool, seed: int) -> None:
    seed_everything(seed)
    x, y = load_iris(return_X_y=True)
    y = torch.tensor(y)
    y[torch.rand(150) < 0.1] = -1
    data = TensorDataset(torch.tensor(scale(x), dtype=torch.float32), y)
    trainer = Trainer(max_epochs=8, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(Iris(mended), DataLoader(data, batch_size=15, shuffle=True))
