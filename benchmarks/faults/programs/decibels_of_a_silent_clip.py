"""Denoising of sounds: the signal-to-noise ratio in decibels is -inf in every validation, as one clip is silent.

Source: none known of this metric; https://github.com/Nixtla/neuralforecast/pull/1603 is of infinite validation losses.
Added: 2026-11-30. Rules changed because of it: none.
"""

import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

DIAGNOSES = ("nonfinite-validation",)
PLACE = "val/snr_db"
PRESET = "standard"
AGAIN = "validation_percentage_of_zero"


class Denoise(LightningModule):
    def __init__(self, mended):
        super().__init__()
        self.eps = 1e-6 if mended else 0.0
        self.net = nn.Sequential(
            nn.Conv1d(1, 16, 9, padding=4), nn.LeakyReLU(0.1), nn.Conv1d(16, 16, 9, padding=4), nn.LeakyReLU(0.1)
        )
        self.out = nn.Conv1d(16, 1, 9, padding=4)

    def forward(self, noisy):
        return self.out(self.net(noisy))

    def training_step(self, batch, batch_idx):
        noisy, clean = batch
        loss = nn.functional.mse_loss(self(noisy), clean)
        self.log("train/mse", loss)
        return loss

    def validation_step(self, batch, batch_idx):
        noisy, clean = batch
        noise = (self(noisy) - clean).square().sum((1, 2))
        ratio = (clean.square().sum((1, 2)) + self.eps) / noise
        self.log("val/snr_db", (10 * ratio.log10()).mean())

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=2e-3)


def clips(size):
    time = torch.arange(100) / 10
    clean = torch.sin(time * (0.5 + 3 * torch.rand(size, 1, 1)) + 6.28 * torch.rand(size, 1, 1))
    return clean + 0.4 * torch.randn_like(clean), clean


def main(mended, seed):
    seed_everything(seed)
    train, (noisy, clean) = clips(800), clips(120)
    noisy[17] -= clean[17]
    clean[17] = 0
    trainer = Trainer(max_epochs=3, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    val = DataLoader(TensorDataset(noisy, clean), batch_size=40)
    trainer.fit(Denoise(mended), DataLoader(TensorDataset(*train), batch_size=40, shuffle=True), val)
