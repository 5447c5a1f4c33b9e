"""A tabular VAE gives an infinite KL term for one row, whose log-variance is large.

Source: https://github.com/vanderschaarlab/synthcity/issues/331 (unbounded log-variances exponentiated).
Added: 2026-11-28. Rules changed because of it: none.
"""

import torch
from lightning import LightningModule, Trainer, seed_everything
from sklearn.datasets import load_breast_cancer
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

DIAGNOSES = ("nonfinite-loss", "nonfinite-activation")
PLACE = "exp"
PRESET = "standard"


class TabularVAE(LightningModule):
    def __init__(self, mended):
        super().__init__()
        self.mended = mended
        self.encoder = nn.Sequential(nn.Linear(30, 48), nn.ReLU(), nn.Linear(48, 12))
        self.decoder = nn.Sequential(nn.Linear(6, 48), nn.ReLU(), nn.Linear(48, 30))

    def training_step(self, batch, batch_idx):
        (x,) = batch
        mean, log_variance = self.encoder(x).chunk(2, dim=1)
        if self.mended:
            x, log_variance = x.clamp(-10, 10), log_variance.clamp(-20, 10)
            mean = mean.clamp(-50, 50)
        deviation = torch.exp(0.5 * log_variance)
        code = mean + deviation * torch.randn_like(mean)
        divergence = 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).sum(1)
        error = (self.decoder(code) - x).abs().sum(1)
        loss = (error + 0.1 * divergence).mean()
        self.log_dict({"loss": loss, "kl": divergence.mean()})
        return loss

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-3)


def main(mended, seed):
    seed_everything(seed)
    x = torch.tensor(load_breast_cancer().data, dtype=torch.float32)
    x = (x - x.mean(0)) / x.std(0)
    x[301] *= 4000  # a row that was exported in another unit
    trainer = Trainer(
        max_epochs=3, accelerator="cpu", gradient_clip_val=1.0, enable_progress_bar=False, enable_model_summary=False
    )
    trainer.fit(TabularVAE(mended), DataLoader(TensorDataset(x), batch_size=32, shuffle=True))
