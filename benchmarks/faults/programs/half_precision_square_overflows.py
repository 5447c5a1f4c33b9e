"""A model that was cast to half precision to save memory gives inf for loud recordings only.

Source: https://github.com/pytorch/pytorch/issues/8860 (NaN loss in half precision).
Added: 2026-11-28. Rules changed because of it: none.
"""

import torch
from lightning import LightningModule, Trainer, seed_everything
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

DIAGNOSES = ("nonfinite-activation", "nonfinite-loss")
PLACE = "power"
PRESET = "standard"


class Power(nn.Module):
    """The mean power of 8 bands."""

    def forward(self, wave):
        power = wave.unflatten(1, (8, 16)) ** 2
        return power.mean(-1)


class Loudness(LightningModule):
    def __init__(self, mended):
        super().__init__()
        self.mended = mended
        self.power = Power()
        self.net = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 1))

    def training_step(self, batch, batch_idx):
        wave, loudness = batch
        if self.mended:
            wave = wave.float()
        level = torch.log1p(self.power(wave)).float()
        loss = (self.net(level).squeeze(1) - loudness).abs().mean()
        self.log("l1", loss)
        return loss

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=3e-3)


def main(mended, seed):
    seed_everything(seed)
    gain = torch.rand(640) * 20
    gain[512] = 900.0
    wave = (gain[:, None] * torch.randn(640, 128)).clamp(-2000, 2000)
    data = TensorDataset(wave.half(), gain.log1p())
    trainer = Trainer(max_epochs=2, accelerator="cpu", enable_progress_bar=False, enable_model_summary=False)
    trainer.fit(Loudness(mended), DataLoader(data, batch_size=20, shuffle=True))
