"""Deep SVDD: all samples of the normal class are drawn to a fixed centre.

Source: https://proceedings.mlr.press/v80/ruff18a.html
Added: 2026-11-28. Rules changed because of it: none.
"""

import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader

DIAGNOSES = ()
PLACE = None
PRESET = "thorough"


class SVDD(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(64, 48, bias=False), nn.LeakyReLU(), nn.Linear(48, 12, bias=False))
        self.register_buffer("centre", torch.zeros(12))

    def on_fit_start(self):
        with torch.no_grad():
            self.centre.copy_(self.net(DIGITS[:600]).mean(0) + 0.1)

    def training_step(self, x, batch_idx):
        return ((self.net(x) - self.centre) ** 2).sum(1).mean()

    def validation_step(self, x, batch_idx):
        self.log("val_distance", ((self.net(x) - self.centre) ** 2).sum(1).mean())

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-3, weight_decay=1e-4)


DIGITS = torch.tensor(load_digits().data[load_digits().target < 4] / 16, dtype=torch.float32)


def main(mended: bool, seed: int) -> None:
    seed_everything(seed)
    trainer = Trainer(max_epochs=4, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(SVDD(), DataLoader(DIGITS[:600], 32, shuffle=True), DataLoader(DIGITS[600:], 60))
