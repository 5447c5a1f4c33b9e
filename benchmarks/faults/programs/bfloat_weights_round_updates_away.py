"""In ``bf16-true`` the loss stops falling early: each update is smaller than half a step of the weights' grid.

Source: https://github.com/workofart/ml-by-hand/pull/85 (updates in bfloat16 that round to nothing).
Added: 2026-11-28. Rules changed because of it: parameter-not-updated (most entries, not only all, of 16-bit weights).
"""

import torch
import torch.nn.functional as F
from lightning import LightningModule, Trainer, seed_everything
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

DIAGNOSES = ("parameter-not-updated", "update-ratio-low")
PLACE = None
PRESET = "standard"


class Scaled(nn.Module):
    """Weights of size one and a factor in front, as equalised learning rates have it."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.weight, self.factor = nn.Parameter(torch.randn(outputs, inputs)), inputs**-0.5

    def forward(self, x):
        return F.linear(x, self.weight * self.factor)


class Digits(LightningModule):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(Scaled(64, 64), nn.ReLU(), Scaled(64, 10))

    def training_step(self, batch, batch_idx):
        loss = F.cross_entropy(self.net(batch[0].to(self.net[0].weight.dtype)).float(), batch[1])
        self.log("loss", loss)
        return loss

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-3)


def main(mended, seed):
    seed_everything(seed)
    digits = load_digits()
    data = TensorDataset(torch.tensor(digits.data, dtype=torch.float32) / 16, torch.tensor(digits.target))
    trainer = Trainer(
        max_epochs=6,
        accelerator="cpu",
        precision="32-true" if mended else "bf16-true",
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(Digits(), DataLoader(data, batch_size=45, shuffle=True))
