"""One Accuracy object for training and validation: the validation accuracy has training samples in it.

Source: https://github.com/Lightning-AI/torchmetrics/issues/1450 and https://github.com/graviraja/MLOps-Basics/issues/16.
Added: 2026-11-28. Rules changed because of it: none.
"""

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule, Trainer, seed_everything
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, random_split
from torchmetrics.classification import MulticlassAccuracy

DIAGNOSES = ("metric-disagrees",)
PLACE = "val_acc"
PRESET = "thorough"


class Shared(LightningModule):
    def __init__(self, mended: bool) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Dropout(0.3), nn.Linear(32, 10))
        self.accuracy = MulticlassAccuracy(num_classes=10, average="micro")
        self.val_accuracy = MulticlassAccuracy(num_classes=10, average="micro") if mended else self.accuracy

    def training_step(self, batch, batch_idx):
        x, y = batch
        score = self.net(x)
        self.accuracy.update(score, y)
        return F.cross_entropy(score, y)

    def validation_step(self, batch, batch_idx):
        x, y = batch
        self.val_accuracy.update(self.net(x), y)

    def on_validation_epoch_end(self):
        self.log("val_acc", self.val_accuracy.compute())
        self.val_accuracy.reset()

    def on_train_epoch_end(self):
        self.accuracy.reset()

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-3)


def main(mended: bool, seed: int) -> None:
    seed_everything(seed)
    x, y = load_digits(return_X_y=True)
    data = TensorDataset(torch.tensor(x / 16, dtype=torch.float32), torch.tensor(y))
    train, val = random_split(data, [1297, 500])
    trainer = Trainer(max_epochs=5, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(Shared(mended), DataLoader(train, 32, shuffle=True), DataLoader(val, 100))
