"""Segmentation with three classes and unlabelled borders (255, ignored), a small encoder and decoder with a skip.

Source: the usual Pascal VOC set-up, https://docs.pytorch.org/docs/stable/generated/torch.nn.CrossEntropyLoss.html
Added: 2026-11-28. Rules changed because of it: none.
"""

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule, Trainer, seed_everything
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

DIAGNOSES = ()
PLACE = None
PRESET = "thorough"


def scenes(size: int) -> TensorDataset:
    image, mask = torch.rand(size, 3, 24, 24) * 0.3, torch.zeros(size, 24, 24, dtype=torch.long)
    for i in range(size):
        for kind in (1, 2):
            row, column = torch.randint(1, 15, (2,)).tolist()
            mask[i, row - 1 : row + 8, column - 1 : column + 8] = 255
            mask[i, row : row + 7, column : column + 7] = kind
            image[i, kind, row : row + 7, column : column + 7] += 0.6
    return TensorDataset((image - 0.25) / 0.25, mask)


class UNet(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Sequential(nn.Conv2d(3, 12, 3, padding=1), nn.BatchNorm2d(12), nn.ReLU())
        self.b = nn.Sequential(nn.Conv2d(12, 24, 3, padding=1, stride=2), nn.ReLU())
        self.up = nn.ConvTranspose2d(24, 12, 2, stride=2)
        self.out = nn.Conv2d(24, 3, 1)
        self.loss = nn.CrossEntropyLoss(ignore_index=255)

    def forward(self, image):
        a = self.a(image)
        return self.out(torch.cat([a, F.relu(self.up(self.b(a)))], dim=1))

    def training_step(self, batch, batch_idx):
        return self.loss(self(batch[0]), batch[1])

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", self.loss(self(batch[0]), batch[1]))

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=3e-3)


def main(mended: bool, seed: int) -> None:
    seed_everything(seed)
    trainer = Trainer(max_epochs=3, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(UNet(), DataLoader(scenes(400), 16, shuffle=True), DataLoader(scenes(80), 16))
