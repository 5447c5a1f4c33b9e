"""Stochastic weight averaging by Lightning's callback, with batch norm.

Source: https://lightning.ai/docs/pytorch/stable/api/lightning.pytorch.callbacks.StochasticWeightAveraging.html
Added: 2026-11-28. Rules changed because of it: no-loss (SWA's last epoch).
"""

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule, Trainer, seed_everything
from lightning.pytorch.callbacks import StochasticWeightAveraging
from sklearn.datasets import load_wine
from sklearn.preprocessing import scale
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, random_split

DIAGNOSES = ()
PLACE = None
PRESET = "thorough"


class Averaged(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(13, 24, bias=False), nn.BatchNorm1d(24), nn.ReLU(), nn.Linear(24, 3))

    def training_step(self, batch, batch_idx):
        return F.cross_entropy(self.net(batch[0]), batch[1])

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", F.cross_entropy(self.net(batch[0]), batch[1]))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.05, momentum=0.9)


def main(mended: bool, seed: int) -> None:
    seed_everything(seed)
    x, y = load_wine(return_X_y=True)
    train, val = random_split(TensorDataset(torch.tensor(scale(x), dtype=torch.float32), torch.tensor(y)), [130, 48])
    trainer = Trainer(
        max_epochs=12,
        callbacks=[StochasticWeightAveraging(swa_lrs=0.02, swa_epoch_start=8)],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
    )
    trainer.fit(Averaged(), DataLoader(train, 13, shuffle=True), DataLoader(val, 48))
