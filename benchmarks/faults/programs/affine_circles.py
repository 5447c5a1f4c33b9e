"""Two rings, four layers of 64 units, 50 % accuracy: nothing helps, neither width nor depth.

Source: https://github.com/aymericdamien/TensorFlow-Examples/issues/270 (no activation function in the MLP).
Added: 2026-11-28. Rules changed because of it: none.
"""

from itertools import pairwise

import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from sklearn.datasets import make_circles
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

DIAGNOSES = ("affine-network",)
PLACE = None
PRESET = "standard"


class Rings(LightningModule):
    def __init__(self, mended: bool) -> None:
        super().__init__()
        sizes, layers = [2, 64, 64, 64], []
        for a, b in pairwise(sizes):
            layers += [nn.Linear(a, b), nn.Dropout(0.05)]
            if mended:
                layers.append(nn.LeakyReLU())
        self.net = nn.Sequential(*layers, nn.Linear(64, 2))
        self.loss = nn.CrossEntropyLoss()

    def training_step(self, batch, batch_idx):
        point, ring = batch
        return self.loss(self.net(point), ring)

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-3)


def main(mended: bool, seed: int) -> None:
    seed_everything(seed)
    x, y = make_circles(2000, noise=0.05, factor=0.5, random_state=seed)
    data = TensorDataset(torch.tensor(x, dtype=torch.float32), torch.tensor(y))
    trainer = Trainer(max_epochs=3, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(Rings(mended), DataLoader(data, batch_size=40, shuffle=True))
