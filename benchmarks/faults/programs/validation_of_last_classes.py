"""The last fifth of a data set sorted by class became the validation set: 97 % in training, 0 % in validation.

Source: https://github.com/zalandoresearch/fashion-mnist/pull/5 (sorted data: the validation set is of one class) and
https://github.com/pytorch/vision/issues/7818.
Added: 2026-11-28. Rules changed because of it: none.
"""

import numpy as np
import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule, Trainer, seed_everything
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

DIAGNOSES = ("class-shift",)
PLACE = None
PRESET = "standard"


class Digits(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))

    def training_step(self, batch, batch_idx):
        return F.cross_entropy(self.net(batch[0]), batch[1])

    def validation_step(self, batch, batch_idx):
        self.log("val_acc", (self.net(batch[0]).argmax(1) == batch[1]).float().mean())

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-3)


def main(mended: bool, seed: int) -> None:
    seed_everything(seed)
    x, y = load_digits(return_X_y=True)
    order = np.argsort(y, kind="stable")  # the folders of the classes, one after the other
    x, y = x[order] / 8 - 1, y[order]
    x_train, x_val, y_train, y_val = train_test_split(x, y, test_size=0.2, shuffle=mended, random_state=0)
    train = TensorDataset(torch.tensor(x_train, dtype=torch.float32), torch.tensor(y_train))
    val = TensorDataset(torch.tensor(x_val, dtype=torch.float32), torch.tensor(y_val))
    trainer = Trainer(max_epochs=4, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(Digits(), DataLoader(train, 48, shuffle=True), DataLoader(val, 100))
