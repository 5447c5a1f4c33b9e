"""Weights of zero should switch samples off, and the loss is NaN all the same.

Source: https://stackoverflow.com/questions/67447166 (what a mask leaves out reaches the result: 0 times infinity).
Added: 2026-11-28. Rules changed because of it: none.
"""

import torch
from lightning import LightningModule, Trainer, seed_everything
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

DIAGNOSES = ("nonfinite-loss",)
PLACE = "log"
PRESET = "standard"


class Survival(LightningModule):
    """An exponential model of waiting times; rows that are not observed have the time 0 and the weight 0."""

    def __init__(self, mended):
        super().__init__()
        self.mended = mended
        self.rate = nn.Sequential(nn.Linear(6, 16), nn.Softplus(), nn.Linear(16, 1))

    def training_step(self, batch, batch_idx):
        x, time, seen = batch
        log_rate = self.rate(x).squeeze(1)
        log_time = time.clamp_min(1e-12).log() if self.mended else time.log()
        each = (log_time + log_rate) ** 2
        loss = (each * seen).sum() / seen.sum().clamp_min(1)
        self.log("nll", loss)
        return loss

    def configure_optimizers(self):
        return torch.optim.RMSprop(self.parameters(), lr=1e-3)


def main(mended, seed):
    seed_everything(seed)
    x = torch.randn(512, 6)
    time = torch.distributions.Exponential((x @ torch.randn(6) * 0.3).exp()).sample().clamp_min(1e-3)
    seen = (torch.rand(512) < 0.95).float()
    time = time * seen
    loader = DataLoader(TensorDataset(x, time, seen), batch_size=32, shuffle=True)
    trainer = Trainer(max_epochs=3, accelerator="cpu", enable_progress_bar=False, enable_model_summary=False)
    trainer.fit(Survival(mended), loader)
