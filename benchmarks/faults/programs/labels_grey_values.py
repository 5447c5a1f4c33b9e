"""Masks were read from PNG files: "Target 255 is out of bounds" in the loss of a two-class segmentation.

Source: https://github.com/milesial/Pytorch-UNet/issues/291 (masks with raw grey values).
Added: 2026-11-28. Rules changed because of it: label-out-of-range (its advice).
"""

import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from torch import nn
from torch.utils.data import DataLoader, Dataset

DIAGNOSES = ("label-out-of-range",)
PLACE = "labels_grey_values.py:48"
PRESET = "standard"


class Squares(Dataset):
    """Bright squares on noise, with a mask as an image editor saves it: 0 and 255."""

    def __init__(self, size: int, mended: bool) -> None:
        self.mended = mended
        self.image = torch.randn(size, 1, 20, 20) * 0.3
        self.mask = torch.zeros(size, 20, 20, dtype=torch.uint8)
        for i, (row, column) in enumerate(torch.randint(0, 12, (size, 2)).tolist()):
            self.mask[i, row : row + 7, column : column + 7] = 255
        self.image += self.mask[:, None] / 255

    def __len__(self):
        return len(self.image)

    def __getitem__(self, i):
        mask = self.mask[i].long()
        return {"image": self.image[i], "mask": mask // 255 if self.mended else mask}


class FCN(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(1, 10, 5, padding=2), nn.ReLU(), nn.Conv2d(10, 10, 3, padding=1), nn.ReLU(), nn.Conv2d(10, 2, 1)
        )
        self.criterion = nn.CrossEntropyLoss()

    def forward(self, image):
        return self.net(image)

    def training_step(self, batch, batch_idx):
        return self.criterion(self(batch["image"]), batch["mask"])

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=3e-3)


def main(mended: bool, seed: int) -> None:
    seed_everything(seed)
    trainer = Trainer(max_epochs=3, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(FCN(), DataLoader(Squares(320, mended), batch_size=16, shuffle=True))
