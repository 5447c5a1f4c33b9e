"""Physics-informed fit: the initial condition is never met, whatever its weight.

Source: https://github.com/Photon-AI-Research/NeuralSolvers/issues/20 (target (N,), prediction (N, 1); here the other
way round, the prediction was squeezed).
Added: 2026-11-28. Rules changed because of it: none.
"""

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule, Trainer, seed_everything
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

DIAGNOSES = ("shape-broadcast",)
PLACE = "broadcast_swapped.py:37"
PRESET = "standard"


class Oscillator(LightningModule):
    """u'' = -u with u(0) given for each start."""

    def __init__(self, mended: bool) -> None:
        super().__init__()
        self.mended = mended
        self.net = nn.Sequential(nn.Linear(2, 40), nn.Tanh(), nn.Linear(40, 40), nn.Tanh(), nn.Linear(40, 1))

    def u(self, t, start):
        return self.net(torch.stack([t, start], dim=1)).squeeze(1)

    def training_step(self, batch, batch_idx):
        t, start, u0 = batch
        t = t.requires_grad_()
        u = self.u(t, start)
        du = torch.autograd.grad(u.sum(), t, create_graph=True)[0]
        d2u = torch.autograd.grad(du.sum(), t, create_graph=True)[0]
        target = u0.squeeze(1) if self.mended else u0
        initial = F.l1_loss(self.u(torch.zeros_like(t), start), target)
        return ((d2u + u) ** 2).mean() + 5 * initial

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=2e-3)


def main(mended: bool, seed: int) -> None:
    seed_everything(seed)
    start = torch.rand(1600) * 2 - 1
    data = TensorDataset(torch.rand(1600) * 3, start, start[:, None].cos())
    trainer = Trainer(max_epochs=4, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(Oscillator(mended), DataLoader(data, batch_size=64, shuffle=True))
