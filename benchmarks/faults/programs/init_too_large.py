"""Digits: the first loss is 60 instead of 2.3, and the first two epochs go into undoing that.

Source: https://stackoverflow.com/questions/61498304 (poor initial weights), https://karpathy.github.io/2019/04/25/recipe
("verify loss @ init").
Added: 2026-11-28. Rules changed because of it: none.
"""

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule, Trainer, seed_everything
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

DIAGNOSES = ("loss-at-init",)
PLACE = None
PRESET = "standard"


def init_weights(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, 0.0, 1.0)
        nn.init.zeros_(module.bias)


class DigitMLP(LightningModule):
    def __init__(self, mended: bool) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(64, 100), nn.ReLU(), nn.Linear(100, 50), nn.ReLU(), nn.Linear(50, 10))
        if not mended:
            self.net.apply(init_weights)

    def training_step(self, batch, batch_idx):
        x, y = batch
        return F.cross_entropy(self.net(x), y)

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-3)


def main(mended: bool, seed: int) -> None:
    seed_everything(seed)
    x, y = load_digits(return_X_y=True)
    data = TensorDataset(torch.tensor(x / 16, dtype=torch.float32), torch.tensor(y))
    trainer = Trainer(max_epochs=3, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(DigitMLP(mended), DataLoader(data, batch_size=64, shuffle=True))
