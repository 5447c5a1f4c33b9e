"""A variational autoencoder: sampling in training, summed reconstruction and KL per image, sigmoid output on 0..1.

Source: https://arxiv.org/abs/1312.6114
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


class VAE(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 2 * 6))
        self.decoder = nn.Sequential(nn.Linear(6, 128), nn.ReLU(), nn.Linear(128, 64), nn.Sigmoid())

    def step(self, x):
        mean, log_var = self.encoder(x).chunk(2, dim=1)
        z = mean + torch.randn_like(mean) * (0.5 * log_var).exp() if self.training else mean
        reconstruction = F.binary_cross_entropy(self.decoder(z), x, reduction="sum") / len(x)
        kl = -0.5 * (1 + log_var - mean**2 - log_var.exp()).sum(1).mean()
        return reconstruction + kl

    def training_step(self, x, batch_idx):
        return self.step(x)

    def validation_step(self, x, batch_idx):
        self.log("val_elbo", self.step(x))

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=2e-3)


def main(mended: bool, seed: int) -> None:
    seed_everything(seed)
    x = torch.tensor(load_digits().data / 16, dtype=torch.float32)[torch.randperm(1797)]
    trainer = Trainer(max_epochs=5, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(VAE(), DataLoader(x[:1500], 32, shuffle=True), DataLoader(x[1500:], 100))
