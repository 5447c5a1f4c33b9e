"""A home-made optimizer that divides by the norm of the gradient breaks a gate that starts closed.

Source: https://github.com/jinxixiang/magic_animate_unofficial/issues/6 (NaN after ``optimizer.step`` alone).
Added: 2026-11-28. Rules changed because of it: none.
"""

import torch
from lightning import LightningModule, Trainer, seed_everything
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

DIAGNOSES = ("optimizer-nonfinite",)
PLACE = "branch"
PRESET = "standard"


class NormalisedSGD(torch.optim.Optimizer):
    def __init__(self, parameters, lr, floor):
        super().__init__(parameters, {"lr": lr, "floor": floor})

    @torch.no_grad()
    def step(self, closure=None):
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    p.sub_(group["lr"] * p.grad / (p.grad.norm() + group["floor"]))
        return loss


class Gated(LightningModule):
    """A residual branch behind a gate that begins at zero: the branch has no gradient in the first step."""

    def __init__(self, mended):
        super().__init__()
        self.floor = 1e-6 if mended else 0.0
        self.stem, self.head = nn.Linear(9, 16), nn.Linear(16, 1)
        self.branch = nn.Sequential(nn.Linear(16, 16), nn.GELU())
        self.gate = nn.Parameter(torch.zeros(1))

    def training_step(self, batch, batch_idx):
        x, y = batch
        hidden = torch.tanh(self.stem(x))
        loss = nn.functional.mse_loss(self.head(hidden + self.gate * self.branch(hidden)).squeeze(1), y)
        self.log("loss", loss)
        return loss

    def configure_optimizers(self):
        return NormalisedSGD(self.parameters(), lr=0.02, floor=self.floor)


def main(mended, seed):
    seed_everything(seed)
    x = torch.randn(500, 9)
    y = torch.sin(x[:, 0] * 2) + x[:, 1] * x[:, 2]
    trainer = Trainer(max_epochs=3, accelerator="cpu", enable_progress_bar=False, enable_model_summary=False)
    trainer.fit(Gated(mended), DataLoader(TensorDataset(x, y), batch_size=25, shuffle=True))
