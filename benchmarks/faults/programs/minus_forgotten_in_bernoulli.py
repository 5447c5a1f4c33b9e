"""Logistic regression by hand, from lecture notes that lack the minus: the "loss" falls below 0, accuracy goes to 0.

Source: https://github.com/cs231n/cs231n.github.io/pull/216 (the missing negative sign of the logistic loss).
Added: 2026-11-30. Rules changed because of it: none.
"""

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule, Trainer, seed_everything
from sklearn.datasets import load_breast_cancer
from sklearn.preprocessing import StandardScaler
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

DIAGNOSES = ("negative-loss",)
PLACE = None
PRESET = "standard"
AGAIN = "flipped_sign"


class Logistic(LightningModule):
    def __init__(self, mended):
        super().__init__()
        self.mended = mended
        self.linear = nn.Sequential(nn.Linear(30, 8), nn.Tanh(), nn.Linear(8, 1))

    def training_step(self, batch, batch_idx):
        x, y = batch
        z = self.linear(x).squeeze(1)
        cost = torch.mean(y * F.logsigmoid(z) + (1 - y) * F.logsigmoid(-z))
        if self.mended:
            cost = -cost
        self.log_dict({"cost": cost, "acc": ((z > 0) == (y > 0)).float().mean()})
        return cost

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def main(mended, seed):
    seed_everything(seed)
    x, y = load_breast_cancer(return_X_y=True)
    x = torch.tensor(StandardScaler().fit_transform(x), dtype=torch.float32)
    data = TensorDataset(x, torch.tensor(y, dtype=torch.float32))
    trainer = Trainer(max_epochs=6, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(Logistic(mended), DataLoader(data, batch_size=32, shuffle=True))
