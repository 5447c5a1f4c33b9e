"""A denoiser gets the noise level, and overwrites it: samples of the diffusion model stay noisy at the end.

Source: https://github.com/TransformerLensOrg/TransformerLens/issues/467 (an argument is overwritten in forward).
Added: 2026-11-28. Rules changed because of it: none.
Missed: told as `info`: an input that the batch fills and nobody reads is harmless in most programs.
"""

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule, Trainer, seed_everything
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

DIAGNOSES = ("unused-input",)
PLACE = None
PRESET = "standard"


class Denoiser(LightningModule):
    def __init__(self, mended: bool) -> None:
        super().__init__()
        self.mended = mended
        self.net = nn.Sequential(nn.Linear(3, 64), nn.SiLU(), nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, 2))

    def forward(self, x, sigma=None):
        if not self.mended or sigma is None:
            sigma = torch.ones(len(x), device=x.device)
        return self.net(torch.cat([x, sigma[:, None]], dim=1))

    def training_step(self, batch, batch_idx):
        noisy, sigma, clean = batch
        return F.mse_loss(self(noisy, sigma), clean)

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=2e-3)


def main(mended: bool, seed: int) -> None:
    seed_everything(seed)
    angle = torch.rand(3000) * 6.2832
    clean = torch.stack([angle.cos(), angle.sin()], dim=1)
    sigma = torch.rand(3000) * 1.5
    noisy = clean + sigma[:, None] * torch.randn_like(clean)
    trainer = Trainer(max_epochs=2, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(Denoiser(mended), DataLoader(TensorDataset(noisy, sigma, clean), batch_size=50, shuffle=True))
