"""Masks of dark cells on bright slides: good in training, useless in validation from the first epoch.

Source: https://github.com/leeyeehoo/CSRNet-pytorch/issues/25 (the pictures are normalised otherwise in validation).
Added: 2026-11-30. Rules changed because of it: none.
"""

import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from torch import nn
from torch.utils.data import DataLoader, Dataset

DIAGNOSES = ("input-shift",)
PLACE = None
PRESET = "standard"
AGAIN = "validation_not_normalised_images"


def train_transform(image):
    return (image / 255 - 0.74) / 0.12


def val_transform(image):
    return image / 255


class Slides(Dataset):
    def __init__(self, count, transform):
        rows, columns = torch.meshgrid(torch.arange(20), torch.arange(20), indexing="ij")
        centres = torch.randint(3, 17, (count, 3, 2, 1, 1))
        radii = 1.5 + 2 * torch.rand(count, 3, 1, 1)
        distances = ((rows - centres[:, :, 0]) ** 2 + (columns - centres[:, :, 1]) ** 2).sqrt()
        self.masks = (distances < radii).any(1, keepdim=True).float()
        pictures = 205 - 70 * self.masks + 18 * torch.randn(count, 1, 20, 20)
        self.pictures = pictures.clamp(0, 255).byte()
        self.transform = transform

    def __len__(self):
        return len(self.pictures)

    def __getitem__(self, index):
        return self.transform(self.pictures[index].float()), self.masks[index]


class CellMasks(LightningModule):
    def __init__(self):
        super().__init__()
        self.down = nn.Sequential(nn.Conv2d(1, 12, 3, padding=1), nn.ReLU())
        self.deep = nn.Sequential(
            nn.MaxPool2d(2), nn.Conv2d(12, 24, 3, padding=1), nn.ReLU(), nn.Upsample(scale_factor=2)
        )
        self.up = nn.Conv2d(36, 1, 3, padding=1)

    def forward(self, picture):
        fine = self.down(picture)
        return self.up(torch.cat([fine, self.deep(fine)], 1))

    def training_step(self, batch, batch_idx):
        picture, mask = batch
        loss = nn.functional.binary_cross_entropy_with_logits(self(picture), mask)
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch, batch_idx):
        picture, mask = batch
        output = self(picture)
        self.log("val_loss", nn.functional.binary_cross_entropy_with_logits(output, mask))
        found = output > 0
        self.log("val_iou", (found & (mask > 0)).sum() / (found | (mask > 0)).sum())

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=3e-3)


def main(mended, seed):
    seed_everything(seed)
    train = Slides(960, train_transform)
    val = Slides(240, train_transform if mended else val_transform)
    trainer = Trainer(max_epochs=4, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(CellMasks(), DataLoader(train, batch_size=32, shuffle=True), DataLoader(val, batch_size=40))
