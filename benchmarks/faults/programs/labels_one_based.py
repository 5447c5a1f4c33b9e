"""Wine quality in classes 1, 2, 3 as the file has them: "IndexError: Target 3 is out of bounds." after some steps.

Source: https://github.com/TencentGameMate/gnn_cross_lingual/issues/5 (classes have to be 0 .. n - 1).
Added: 2026-11-28. Rules changed because of it: none.
"""

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule, Trainer, seed_everything
from sklearn.datasets import load_wine
from sklearn.preprocessing import scale
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

DIAGNOSES = ("label-out-of-range",)
PLACE = "labels_one_based.py:27"
PRESET = "standard"


class Wine(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(13, 20), nn.BatchNorm1d(20), nn.ReLU(), nn.Linear(20, 3))

    def training_step(self, batch, batch_idx):
        x, y = batch
        return F.cross_entropy(self.net(x), y)

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-2)


def main(mended: bool, seed: int) -> None:
    seed_everything(seed)
    x, y = load_wine(return_X_y=True)
    quality = y + (0 if mended else 1)
    data = TensorDataset(torch.tensor(scale(x), dtype=torch.float32), torch.tensor(quality))
    trainer = Trainer(max_epochs=10, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(Wine(), DataLoader(data, batch_size=20, shuffle=True, drop_last=True))
