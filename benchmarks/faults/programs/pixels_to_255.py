"""Pixels of 0 to 255 into a multilayer perceptron with sigmoid units: the loss does not fall.

Source: https://stackoverflow.com/questions/55328966 (images that were not scaled).
Added: 2026-11-28. Rules changed because of it: none.
"""

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule, Trainer, seed_everything
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

DIAGNOSES = ("input-not-normalized",)
PLACE = None
PRESET = "standard"


class Perceptron(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.Sigmoid(), nn.Linear(64, 10))

    def training_step(self, batch, batch_idx):
        image, digit = batch
        return F.cross_entropy(self.net(image), digit)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)


def main(mended: bool, seed: int) -> None:
    seed_everything(seed)
    digits = load_digits()
    image = torch.tensor(digits.images, dtype=torch.float32)[:, None] * (255 / 16)
    if mended:
        image = image / 127.5 - 1
    loader = DataLoader(TensorDataset(image, torch.tensor(digits.target)), batch_size=60, shuffle=True)
    trainer = Trainer(max_epochs=3, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(Perceptron(), loader)
