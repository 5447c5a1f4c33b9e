"""Inputs are standardised by running statistics of one's own; the loss of training is fine, that of validation is NaN.

Source: https://github.com/torch/nn/pull/1271 (the last batch of one sample puts NaN into the running variance).
Added: 2026-11-30. Rules changed because of it: none.
"""

import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from sklearn.datasets import load_diabetes
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

DIAGNOSES = ("nonfinite-buffer", "nonfinite-validation", "nonfinite-parameter")
PLACE = "scale"
PRESET = "standard"
AGAIN = "own_norm_running_variance"


class RunningScaler(nn.Module):
    """Standardise by statistics that are updated with each training batch."""

    def __init__(self, size, momentum=0.05):
        super().__init__()
        self.momentum = momentum
        self.register_buffer("centre", torch.zeros(size))
        self.register_buffer("scale", torch.ones(size))

    def forward(self, x):
        if not self.training:
            return (x - self.centre) / self.scale
        self.centre = (1 - self.momentum) * self.centre + self.momentum * x.mean(0)
        self.scale = (1 - self.momentum) * self.scale + self.momentum * x.std(0)
        return (x - x.mean(0)) / (x.std(0, unbiased=False) + 1e-3)


class Progression(LightningModule):
    def __init__(self):
        super().__init__()
        self.scaler = RunningScaler(10)
        self.net = nn.Sequential(nn.Linear(10, 24), nn.SELU(), nn.Linear(24, 1))

    def forward(self, x):
        return self.net(self.scaler(x)).squeeze(1)

    def training_step(self, batch, batch_idx):
        loss = nn.functional.smooth_l1_loss(self(batch[0]), batch[1])
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", nn.functional.smooth_l1_loss(self(batch[0]), batch[1]))

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=3e-3)


def main(mended, seed):
    seed_everything(seed)
    x, y = (torch.tensor(part, dtype=torch.float32) for part in load_diabetes(return_X_y=True, scaled=False))
    x, y = x / x.std(0), (y - y.mean()) / y.std()
    order = torch.randperm(442)
    train, val = TensorDataset(x[order[:361]], y[order[:361]]), TensorDataset(x[order[361:]], y[order[361:]])
    loader = DataLoader(train, batch_size=40, shuffle=True, drop_last=mended)  # 361 = 9 * 40 + 1
    trainer = Trainer(max_epochs=6, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(Progression(), loader, DataLoader(val, batch_size=81))
