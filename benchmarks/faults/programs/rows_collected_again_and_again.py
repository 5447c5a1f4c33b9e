"""While measurements come in, all that were collected so far are written each time: 800 rows become 3600.

Source: https://github.com/instructlab/instructlab/issues/1003 (the training set holds each sample many times, as it is
written anew in a loop).
Added: 2026-11-30. Rules changed because of it: none.
Missed: told as `info`: repeating samples in training is a common means against rare classes.
"""

import numpy as np
import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from sklearn.datasets import make_friedman1
from torch import nn
from torch.utils.data import DataLoader, Dataset

DIAGNOSES = ("duplicate-samples",)
PLACE = None
PRESET = "standard"
AGAIN = "duplicates_in_training"


class Collected(Dataset):
    def __init__(self, x, y, mended):
        self.rows, collected = [], []
        for part in np.array_split(np.arange(len(y)), 8):
            fresh = [(x[i].astype(np.float32), np.float32(y[i])) for i in part]
            collected += fresh
            self.rows += fresh if mended else collected

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, i):
        return self.rows[i]


class Friedman(LightningModule):
    def __init__(self):
        super().__init__()
        self.hidden = nn.ModuleList([nn.Linear(8, 48), nn.Linear(48, 48)])
        self.out = nn.Linear(48, 1)

    def training_step(self, batch, batch_idx):
        x, y = batch
        for layer in self.hidden:
            x = nn.functional.softplus(layer(x))
        loss = nn.functional.huber_loss(self.out(x).squeeze(1), y)
        self.log("huber", loss)
        return loss

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=3e-3)


def main(mended, seed):
    seed_everything(seed)
    x, y = make_friedman1(800, 8, noise=0.3, random_state=seed)
    data = Collected((x - 0.5) / 0.29, (y - y.mean()) / y.std(), mended)
    trainer = Trainer(max_epochs=3, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(Friedman(), DataLoader(data, batch_size=40, shuffle=True))
