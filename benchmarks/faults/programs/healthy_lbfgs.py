"""A small regression by LBFGS, full batch, several evaluations a step.

Source: https://docs.pytorch.org/docs/stable/generated/torch.optim.LBFGS.html
Added: 2026-11-28. Rules changed because of it: none.
"""

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule, Trainer, seed_everything
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

DIAGNOSES = ()
PLACE = None
PRESET = "thorough"


class Fit(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(1, 12), nn.Tanh(), nn.Linear(12, 1))

    def training_step(self, batch, batch_idx):
        loss = F.mse_loss(self.net(batch[0]), batch[1])
        self.log("loss", loss)
        return loss

    def configure_optimizers(self):
        return torch.optim.LBFGS(self.parameters(), lr=0.5, max_iter=5, line_search_fn="strong_wolfe")


def main(mended: bool, seed: int) -> None:
    seed_everything(seed)
    x = torch.linspace(-2, 2, 200)[:, None]
    data = TensorDataset(x, torch.sin(2 * x) + 0.05 * torch.randn_like(x))
    trainer = Trainer(
        max_epochs=30, log_every_n_steps=1, logger=False, enable_checkpointing=False, enable_progress_bar=False
    )
    trainer.fit(Fit(), DataLoader(data, batch_size=200, shuffle=True))
