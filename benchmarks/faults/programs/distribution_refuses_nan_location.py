"""The run ends with "Expected parameter loc ... of distribution Normal": one cell has no counts at all.

Source: https://github.com/WanluLiuLab/scAtlasVAE/issues/16 (NaN in the encoder shows in the check of arguments).
Added: 2026-11-28. Rules changed because of it: none.
"""

import torch
from lightning import LightningModule, Trainer, seed_everything
from torch import distributions as D
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

DIAGNOSES = ("nonfinite-activation", "nonfinite-loss")
PLACE = "counts / counts.sum"
PRESET = "standard"


class SizeNormal(nn.Module):
    def __init__(self, floor):
        super().__init__()
        self.floor = floor

    def forward(self, counts):
        return torch.log1p(1e3 * (counts / counts.sum(1, keepdim=True).clamp_min(self.floor)))


class CellVAE(LightningModule):
    def __init__(self, mended):
        super().__init__()
        self.normal = SizeNormal(1.0 if mended else 0.0)
        self.encoder = nn.Sequential(nn.Linear(50, 32), nn.SiLU(), nn.Linear(32, 8))
        self.decoder = nn.Linear(4, 50)

    def training_step(self, batch, batch_idx):
        (counts,) = batch
        location, scale = self.encoder(self.normal(counts)).chunk(2, 1)
        posterior = D.Normal(location, nn.functional.softplus(scale) + 1e-3)
        rates = self.decoder(posterior.rsample()).exp()
        divergence = D.kl_divergence(posterior, D.Normal(0.0, 1.0)).sum(1)
        loss = (divergence - D.Poisson(rates).log_prob(counts).sum(1)).mean()
        self.log("elbo", -loss)
        return loss

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=2e-3)


def main(mended, seed):
    seed_everything(seed)
    counts = torch.poisson(torch.rand(50) * 3 * torch.rand(600, 1) + 0.5)
    counts[444] = 0
    trainer = Trainer(max_epochs=3, accelerator="cpu", enable_progress_bar=False, enable_model_summary=False)
    trainer.fit(CellVAE(mended), DataLoader(TensorDataset(counts), batch_size=50, shuffle=True))
