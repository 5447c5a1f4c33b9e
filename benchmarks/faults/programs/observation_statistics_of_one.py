"""The policy trains, and acts on NaN when it is deployed: the statistics of observations began with one row.

Source: https://github.com/pytorch/pytorch/issues/29372 (a variance of one element).
Added: 2026-11-28, after nonfinite-buffer was changed and without sight of it. Rules changed because of it: none.
"""

import torch
from lightning import LightningModule, Trainer, seed_everything
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

DIAGNOSES = ("nonfinite-buffer", "nonfinite-validation", "nonfinite-parameter")
PLACE = "spread"
PRESET = "standard"


class Observer(nn.Module):
    """Keeps mean and spread of what it sees for later; in training the batch is scaled by itself."""

    def __init__(self):
        super().__init__()
        self.register_buffer("centre", torch.zeros(9))
        self.register_buffer("spread", torch.ones(9))
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, x):
        if not self.training:
            return (x - self.centre) / self.spread
        own = (x - x.mean(0)).square().sum(0) / max(len(x) - 1, 1)
        self.centre += (x.detach().mean(0) - self.centre) * 0.05
        self.spread += (own.detach().sqrt() / (own.detach().sqrt().mean()) - self.spread) * 0.05
        self.seen += len(x)
        return (x - x.mean(0)) / (own + 1e-4).sqrt()


class Imitate(LightningModule):
    def __init__(self):
        super().__init__()
        self.observe = Observer()
        self.act = nn.Sequential(nn.Linear(9, 32), nn.Tanh(), nn.Linear(32, 3))

    def training_step(self, batch, batch_idx):
        loss = nn.functional.mse_loss(self.act(self.observe(batch[0])), batch[1])
        self.log("loss", loss)
        return loss

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=2e-3)


def main(mended, seed):
    seed_everything(seed)
    seen = torch.randn(601, 9) * torch.linspace(0.2, 5, 9)
    done = torch.stack([seen[:, 0] * 3, seen[:, 8] / 5, seen[:, 4].sign()], 1)
    loader = DataLoader(TensorDataset(seen, done), batch_size=40, shuffle=True, drop_last=mended)  # 601 = 15 * 40 + 1
    trainer = Trainer(max_epochs=3, accelerator="cpu", enable_progress_bar=False, enable_model_summary=False)
    trainer.fit(Imitate(), loader)
