"""Smoothing a noisy track: ``nn.MultiheadAttention`` gets (batch, time, features) and takes the batch for the time.

Source: https://github.com/om-ai-lab/OmDet/issues/19 (self-attention without ``batch_first=True``).
Added: 2026-11-30. Rules changed because of it: none.
"""

import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

DIAGNOSES = ("batch-leak",)
PLACE = "self_attn"
PRESET = "standard"
AGAIN = "transformer_not_batch_first"


class Smoother(LightningModule):
    """The true position at each time."""

    def __init__(self, mended):
        super().__init__()
        self.lift = nn.Linear(2, 32)
        self.register_buffer("clock", torch.randn(16, 32))
        self.self_attn = nn.MultiheadAttention(32, 2, batch_first=mended)
        self.norm = nn.LayerNorm(32)
        self.drop = nn.Linear(32, 2)

    def forward(self, track):
        h = self.lift(track) + self.clock
        h = self.norm(h + self.self_attn(h, h, h, need_weights=False)[0])
        return self.drop(h)

    def training_step(self, batch, batch_idx):
        noisy, true = batch
        loss = nn.functional.mse_loss(self(noisy), true)
        self.log("mse", loss)
        return loss

    def validation_step(self, batch, batch_idx):
        self.log("val_mse", nn.functional.mse_loss(self(batch[0]), batch[1]))

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=2e-3)


def tracks(size):
    true = 0.3 * torch.randn(size, 16, 2).cumsum(1) + torch.randn(size, 1, 2)
    return TensorDataset(true + 0.5 * torch.randn_like(true), true)


def main(mended, seed):
    seed_everything(seed)
    trainer = Trainer(max_epochs=3, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(Smoother(mended), DataLoader(tracks(1200), 30, shuffle=True), DataLoader(tracks(200), 50))
