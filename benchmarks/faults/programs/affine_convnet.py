"""Counting blobs in images with four convolutions and batch norm; it is no better than the mean brightness.

Source: https://github.com/nutonomy/nuscenes-devkit/issues/728 and
https://github.com/Nota-NetsPresso/netspresso-trainer/issues/320 (an activation is missing between layers).
Added: 2026-11-28. Rules changed because of it: none.
"""

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule, Trainer, seed_everything
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

DIAGNOSES = ("affine-network",)
PLACE = None
PRESET = "standard"


def conv_block(inputs: int, outputs: int, activation: bool) -> nn.Sequential:
    layers = [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs)]
    return nn.Sequential(*layers, *([nn.ReLU(inplace=True)] if activation else []), nn.AvgPool2d(2))


class BlobCounter(LightningModule):
    def __init__(self, mended: bool) -> None:
        super().__init__()
        self.body = nn.Sequential(*(conv_block(a, b, mended) for a, b in ((1, 8), (8, 12), (12, 16))))
        self.count = nn.Linear(16 * 9, 1)

    def forward(self, image):
        return self.count(self.body(image).flatten(1)).squeeze(1)

    def training_step(self, batch, batch_idx):
        image, count = batch
        return F.mse_loss(self(image), count)

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=2e-3)


def blobs(size: int) -> TensorDataset:
    count = torch.randint(0, 6, (size,))
    image = torch.zeros(size, 1, 24, 24)
    for i, n in enumerate(count.tolist()):
        for row, column in torch.randint(0, 21, (n, 2)).tolist():
            image[i, 0, row : row + 3, column : column + 3] = 1
    noise = torch.randn(size, 1, 1, 1) * 0.3
    return TensorDataset(image + noise, (count - 2.5) / 1.7)


def main(mended: bool, seed: int) -> None:
    seed_everything(seed)
    trainer = Trainer(max_epochs=2, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(BlobCounter(mended), DataLoader(blobs(1200), batch_size=40, shuffle=True))
