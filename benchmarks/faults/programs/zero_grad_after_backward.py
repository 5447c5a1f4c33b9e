"""Weights of a manual loop do not move at all: ``zero_grad`` stands between backward and step.

Source: https://github.com/huggingface/accelerate/issues/1299 (when gradients are cleared).
Added: 2026-11-28. Rules changed because of it: none.
"""

import torch
from lightning import LightningModule, Trainer, seed_everything
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

DIAGNOSES = ("gradients-cleared",)
PLACE = "zero_grad"
PRESET = "standard"


class Flow(LightningModule):
    """One affine coupling layer on two dimensions."""

    def __init__(self, mended):
        super().__init__()
        self.automatic_optimization = False
        self.mended = mended
        self.net = nn.Sequential(nn.Linear(1, 32), nn.Tanh(), nn.Linear(32, 2))

    def training_step(self, batch, batch_idx):
        (x,) = batch
        scale, shift = self.net(x[:, :1]).chunk(2, 1)
        scale = torch.tanh(scale)
        z = (x[:, 1:] - shift) * torch.exp(-scale)
        loss = (0.5 * z**2 + scale).mean()
        optimizer = self.optimizers()
        if self.mended:
            optimizer.zero_grad()
        self.manual_backward(loss)
        if not self.mended:
            optimizer.zero_grad()
        optimizer.step()
        self.log("nll", loss)

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=5e-3)


def main(mended, seed):
    seed_everything(seed)
    first = torch.randn(800, 1)
    x = torch.cat([first, torch.sin(2 * first) + 0.2 * torch.randn(800, 1)], 1)
    trainer = Trainer(max_epochs=4, accelerator="cpu", enable_progress_bar=False, enable_model_summary=False)
    trainer.fit(Flow(mended), DataLoader(TensorDataset(x), batch_size=40, shuffle=True))
