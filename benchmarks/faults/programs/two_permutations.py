"""A generator of batches shuffles inputs and targets, each with a permutation of its own, at the start of training.

Source: https://github.com/udacity/sdc-issue-reports/issues/1326 (features and labels shuffled in different orders).
Added: 2026-11-30. Rules changed because of it: labels-unrelated-to-inputs (the Huber loss).
"""

import numpy as np
import torch
from lightning.pytorch import LightningDataModule, LightningModule, Trainer, seed_everything
from sklearn.datasets import make_friedman2
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

DIAGNOSES = ("no-better-than-trivial", "labels-unrelated-to-inputs")
PLACE = None
PRESET = "thorough"


class Circuit(LightningDataModule):
    """Impedance of a circuit from four of its quantities."""

    def __init__(self, mended, seed):
        super().__init__()
        self.mended, self.seed = mended, seed

    def setup(self, stage):
        rng = np.random.default_rng(self.seed)
        x, y = make_friedman2(1000, noise=10, random_state=self.seed)
        x, y = (x - x.mean(0)) / x.std(0), (y - y.mean()) / y.std()
        if self.mended:
            order = rng.permutation(1000)
            x, y = x[order], y[order]
        else:
            x, y = rng.permutation(x), rng.permutation(y)
        x, y = torch.tensor(x, dtype=torch.float32), torch.tensor(y, dtype=torch.float32)[:, None]
        self.train, self.val = TensorDataset(x[:800], y[:800]), TensorDataset(x[800:], y[800:])

    def train_dataloader(self):
        return DataLoader(self.train, batch_size=32, shuffle=True)

    def val_dataloader(self):
        return DataLoader(self.val, batch_size=100)


class Impedance(LightningModule):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(4, 32), nn.Mish(), nn.Linear(32, 32), nn.Mish(), nn.Linear(32, 1))

    def training_step(self, batch, batch_idx):
        loss = nn.functional.huber_loss(self.net(batch[0]), batch[1])
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", nn.functional.huber_loss(self.net(batch[0]), batch[1]))

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=2e-3)


def main(mended, seed):
    seed_everything(seed)
    trainer = Trainer(max_epochs=10, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(Impedance(), datamodule=Circuit(mended, seed))
