"""shuffle=False, and the files sorted by class: the loss falls to 0 in stretches and jumps up ten times an epoch.

Source: https://github.com/pytorch/vision/issues/7818 (samples in order of their class) and
https://github.com/keras-team/keras/issues/6955.
Added: 2026-11-28. Rules changed because of it: none.
"""

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule, Trainer, seed_everything
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, Subset, TensorDataset, random_split

DIAGNOSES = ("unshuffled-training-data",)
PLACE = None
PRESET = "standard"


class Folders(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(64, 100), nn.ReLU(), nn.Linear(100, 10))

    def training_step(self, batch, batch_idx):
        image, label = batch
        loss = F.cross_entropy(self.net(image), label)
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch, batch_idx):
        self.log("val_acc", (self.net(batch[0]).argmax(1) == batch[1]).float().mean())

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-3)


def main(mended: bool, seed: int) -> None:
    seed_everything(seed)
    digits = load_digits()
    data = TensorDataset(torch.tensor(digits.images, dtype=torch.float32) / 16, torch.tensor(digits.target))
    train, val = random_split(data, [1497, 300])
    by_class = sorted(train.indices, key=lambda i: int(digits.target[i]))
    trainer = Trainer(max_epochs=4, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(Folders(), DataLoader(Subset(data, by_class), 32, shuffle=mended), DataLoader(val, 100))
