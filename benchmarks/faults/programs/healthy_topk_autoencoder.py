"""A sparse autoencoder: of 128 units only the 8 largest stay, the rest is 0 for each sample.

Source: https://arxiv.org/abs/2406.04093
Added: 2026-11-28. Rules changed because of it: none.
"""

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule, Trainer, seed_everything
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader

DIAGNOSES = ()
PLACE = None
PRESET = "thorough"


class TopK(LightningModule):
    def __init__(self, active: int = 8) -> None:
        super().__init__()
        self.active = active
        self.bias = nn.Parameter(torch.zeros(64))
        self.encoder, self.decoder = nn.Linear(64, 128), nn.Linear(128, 64, bias=False)

    def forward(self, x):
        h = self.encoder(x - self.bias)
        value, where = h.topk(self.active, dim=1)
        return self.decoder(torch.zeros_like(h).scatter(1, where, F.relu(value))) + self.bias

    def training_step(self, x, batch_idx):
        return F.mse_loss(self(x), x)

    def validation_step(self, x, batch_idx):
        self.log("val_mse", F.mse_loss(self(x), x))

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=2e-3)


def main(mended: bool, seed: int) -> None:
    seed_everything(seed)
    x = torch.tensor(load_digits().data, dtype=torch.float32)[torch.randperm(1797)]
    x = (x - x.mean()) / x.std()
    trainer = Trainer(max_epochs=4, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(TopK(), DataLoader(x[:1500], 32, shuffle=True), DataLoader(x[1500:], 100))
