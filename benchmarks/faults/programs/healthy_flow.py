"""A normalising flow of affine couplings on two moons: exact likelihood, zero-initialised last layers.

Source: https://arxiv.org/abs/1605.08803 (RealNVP)
Added: 2026-11-28. Rules changed because of it: none.
"""

import math

import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from sklearn.datasets import make_moons
from torch import nn
from torch.utils.data import DataLoader

DIAGNOSES = ()
PLACE = None
PRESET = "thorough"


class Coupling(nn.Module):
    def __init__(self, flip: bool) -> None:
        super().__init__()
        self.flip = flip
        self.net = nn.Sequential(nn.Linear(1, 48), nn.ReLU(), nn.Linear(48, 48), nn.ReLU(), nn.Linear(48, 2))
        nn.init.zeros_(self.net[-1].weight)
        nn.init.zeros_(self.net[-1].bias)

    def forward(self, x):
        a, b = x.chunk(2, dim=1)
        if self.flip:
            a, b = b, a
        log_scale, shift = self.net(a).chunk(2, dim=1)
        b = b * log_scale.tanh().exp() + shift
        return torch.cat([b, a] if self.flip else [a, b], dim=1), log_scale.tanh().squeeze(1)


class RealNVP(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Coupling(i % 2 == 0) for i in range(6))

    def step(self, z):
        log_det = torch.zeros(len(z), device=z.device)
        for layer in self.layers:
            z, change = layer(z)
            log_det = log_det + change
        log_prior = -0.5 * (z**2).sum(1) - math.log(2 * math.pi)
        return -(log_prior + log_det).mean()

    def training_step(self, x, batch_idx):
        return self.step(x)

    def validation_step(self, x, batch_idx):
        self.log("val_nll", self.step(x))

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=2e-3)


def main(mended: bool, seed: int) -> None:
    seed_everything(seed)
    x = torch.tensor(make_moons(3400, noise=0.05, random_state=seed)[0], dtype=torch.float32)
    x = (x - x.mean(0)) / x.std(0)
    trainer = Trainer(max_epochs=3, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(RealNVP(), DataLoader(x[:3000], 64, shuffle=True), DataLoader(x[3000:], 200))
