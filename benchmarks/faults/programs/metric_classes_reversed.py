"""The loss says that the model is excellent, the accuracy that it is as good as a guess.

Source: https://github.com/anujshah1003/own_data_cnn_implementation_keras/issues/4 (class numbers in another order).
Added: 2026-11-28. Rules changed because of it: metric-disagrees (accuracies by hand).
Missed: the line is named, not the metric that is logged.
"""

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule, Trainer, seed_everything
from sklearn.datasets import load_iris
from sklearn.preprocessing import scale
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, random_split

DIAGNOSES = ("metric-disagrees",)
PLACE = "val_acc"
PRESET = "thorough"


class IrisNet(LightningModule):
    def __init__(self, mended: bool) -> None:
        super().__init__()
        self.mended = mended
        self.net = nn.Sequential(nn.Linear(4, 20), nn.ReLU(), nn.Linear(20, 3))

    def training_step(self, batch, batch_idx):
        return F.cross_entropy(self.net(batch[0]), batch[1])

    def validation_step(self, batch, batch_idx):
        x, y = batch
        score = self.net(x)
        self.log("val_loss", F.cross_entropy(score, y))
        # the class list of the metric was written from last to first
        prediction = score.argmax(dim=1) if self.mended else 2 - score.argmax(dim=1)
        self.log("val_acc", (prediction == y).float().mean())

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-2)


def main(mended: bool, seed: int) -> None:
    seed_everything(seed)
    x, y = load_iris(return_X_y=True)
    train, val = random_split(TensorDataset(torch.tensor(scale(x), dtype=torch.float32), torch.tensor(y)), [100, 50])
    trainer = Trainer(max_epochs=12, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(IrisNet(mended), DataLoader(train, 10, shuffle=True), DataLoader(val, 25))
