"""A physics-informed network for u' = -u on 0..3: a derivative, a boundary term, no labels.

Source: https://www.sciencedirect.com/science/article/pii/S0021999118307125
Added: 2026-11-28. Rules changed because of it: none.
"""

import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from torch import nn
from torch.utils.data import DataLoader

DIAGNOSES = ()
PLACE = None
PRESET = "thorough"


class Decay(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.u = nn.Sequential(nn.Linear(1, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 1))

    def training_step(self, t, batch_idx):
        t = t.requires_grad_()
        u = self.u(t)
        (du,) = torch.autograd.grad(u.sum(), t, create_graph=True)
        start = self.u(torch.zeros(1, 1, device=self.device))
        residual, boundary = ((du + u) ** 2).mean(), ((start - 1) ** 2).mean()
        self.log_dict({"residual": residual, "boundary": boundary})
        return residual + boundary

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=3e-3)


def main(mended: bool, seed: int) -> None:
    seed_everything(seed)
    trainer = Trainer(max_epochs=5, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(Decay(), DataLoader(torch.rand(1000, 1) * 3, 50, shuffle=True))
