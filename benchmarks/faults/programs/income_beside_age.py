"""Income in dollars beside nine features of size 1: the network hears nothing but income.

Source: https://stackoverflow.com/questions/39525358 and kaggle-melbourne of DeepFD's 52 programs (one scale of a
million times the others).
Added: 2026-11-28. Rules changed because of it: affine-network (badly scaled inputs),
loss-at-init (stands behind input-not-normalized).
"""

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule, Trainer, seed_everything
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

DIAGNOSES = ("input-not-normalized",)
PLACE = None
PRESET = "standard"


class Churn(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 1), nn.Flatten(0))

    def training_step(self, batch, batch_idx):
        return F.binary_cross_entropy_with_logits(self.net(batch[0]), batch[1])

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-3)


def main(mended: bool, seed: int) -> None:
    seed_everything(seed)
    x = torch.randn(1500, 10)
    stays = ((x[:, 1] + x[:, 2] * x[:, 3] + 0.3 * x[:, 0]) > 0).float()
    if not mended:
        x[:, 0] = 60_000 + 20_000 * x[:, 0]
    trainer = Trainer(max_epochs=3, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(Churn(), DataLoader(TensorDataset(x, stays), batch_size=50, shuffle=True))
