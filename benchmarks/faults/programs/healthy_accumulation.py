"""Gradient accumulation over 4 small batches, clipping and a cosine schedule.

Source: https://lightning.ai/docs/pytorch/stable/advanced/training_tricks.html
Added: 2026-11-28. Rules changed because of it: none.
"""

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule, Trainer, seed_everything
from sklearn.datasets import load_diabetes
from sklearn.preprocessing import scale
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

DIAGNOSES = ()
PLACE = None
PRESET = "thorough"


class Accumulated(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 1))

    def training_step(self, batch, batch_idx):
        loss = F.l1_loss(self.net(batch[0]), batch[1])
        self.log("train_mae", loss)
        return loss

    def validation_step(self, batch, batch_idx):
        self.log("val_mae", F.l1_loss(self.net(batch[0]), batch[1]))

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)
        return [optimizer], [torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=20)]


def main(mended: bool, seed: int) -> None:
    seed_everything(seed)
    x, y = load_diabetes(return_X_y=True)
    x, y = torch.tensor(scale(x), dtype=torch.float32), torch.tensor(scale(y), dtype=torch.float32)[:, None]
    train, val = TensorDataset(x[:352], y[:352]), TensorDataset(x[352:], y[352:])
    trainer = Trainer(
        max_epochs=20,
        accumulate_grad_batches=4,
        gradient_clip_val=5.0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
    )
    trainer.fit(Accumulated(), DataLoader(train, 8, shuffle=True), DataLoader(val, 90))
