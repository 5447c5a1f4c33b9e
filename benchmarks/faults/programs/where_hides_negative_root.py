"""``torch.where`` keeps the forward pass clean, and the gradients are NaN.

Source: https://stackoverflow.com/questions/67447166 (NaN of the branch that was not chosen reaches the gradient).
Added: 2026-11-28. Rules changed because of it: none.
"""

import torch
from lightning import LightningModule, Trainer, seed_everything
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

DIAGNOSES = ("nonfinite-gradient",)
PLACE = "sqrt"
PRESET = "standard"


class SafeRoot(nn.Module):
    """sqrt for positive numbers, the identity for others."""

    def __init__(self, mended):
        super().__init__()
        self.mended = mended

    def forward(self, x):
        inside = torch.where(x > 0, x, torch.ones_like(x)) if self.mended else x
        return torch.where(x > 0, torch.sqrt(inside), x)


class Calibrated(LightningModule):
    def __init__(self, mended):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(4, 20), SafeRoot(mended), nn.LayerNorm(20), nn.Linear(20, 1))

    def training_step(self, batch, batch_idx):
        x, y = batch
        loss = torch.nn.functional.huber_loss(self.net(x).squeeze(-1), y)
        self.log("huber", loss)
        return loss

    def configure_optimizers(self):
        return torch.optim.NAdam(self.parameters(), lr=2e-3)


def main(mended, seed):
    seed_everything(seed)
    x = torch.rand(600, 4) * 2 - 1
    y = x[:, 0].abs().sqrt() - x[:, 1] * x[:, 2]
    trainer = Trainer(max_epochs=3, accelerator="cpu", enable_progress_bar=False, enable_model_summary=False)
    trainer.fit(Calibrated(mended), DataLoader(TensorDataset(x, y), batch_size=50, shuffle=True))
