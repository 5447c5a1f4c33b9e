"""The file called best has another validation loss than its name says.

Source: https://github.com/Lightning-AI/pytorch-lightning/issues/20185 (stale values of validation metrics).
Added: 2026-11-28. Rules changed because of it: none.
"""

import torch
import torch.nn.functional as F
from lightning import LightningModule, Trainer, seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

DIAGNOSES = ("checkpoint-stale",)
PLACE = "val_acc"
PRESET = "standard"


class Digits(LightningModule):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))

    def training_step(self, batch, batch_idx):
        loss = F.cross_entropy(self.net(batch[0]), batch[1])
        self.log("loss", loss)
        return loss

    def validation_step(self, batch, batch_idx):
        self.log("val_acc", (self.net(batch[0]).argmax(1) == batch[1]).float().mean())

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.05)


def main(mended, seed):
    seed_everything(seed)
    digits = load_digits()
    order = torch.randperm(1797)
    x, y = torch.tensor(digits.data, dtype=torch.float32)[order] / 16, torch.tensor(digits.target)[order]
    when = {} if mended else {"every_n_train_steps": 10}
    keep = ModelCheckpoint(monitor="val_acc", mode="max", filename="{step}-{val_acc:.3f}", **when)
    trainer = Trainer(
        max_epochs=3,
        accelerator="cpu",
        val_check_interval=10,
        callbacks=keep,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    train = DataLoader(TensorDataset(x[:1500], y[:1500]), batch_size=50, shuffle=True)
    trainer.fit(Digits(), train, DataLoader(TensorDataset(x[1500:], y[1500:]), batch_size=99))
