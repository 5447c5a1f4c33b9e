"""Segmentation of discs with a focal loss of one's own: all pixels come out as foreground.

Source: https://github.com/itakurah/focal-loss-pytorch/pull/5 (binary_cross_entropy_with_logits of probabilities).
Added: 2026-11-28. Rules changed because of it: none.
"""

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule, Trainer, seed_everything
from torch import nn
from torch.utils.data import DataLoader, Dataset

DIAGNOSES = ("double-sigmoid",)
PLACE = "sigmoid_focal_segmentation.py:42"
PRESET = "standard"


class Discs(Dataset):
    def __init__(self, size: int) -> None:
        grid = torch.arange(24.0)
        centre, radius = torch.rand(size, 2) * 14 + 5, torch.rand(size) * 3 + 2.5
        distance = (grid[None, :, None] - centre[:, 0, None, None]) ** 2
        distance = distance + (grid[None, None] - centre[:, 1, None, None]) ** 2
        self.mask = (distance < radius[:, None, None] ** 2).float()
        self.image = self.mask + 0.4 * torch.randn(size, 24, 24)

    def __len__(self):
        return len(self.mask)

    def __getitem__(self, i):
        return self.image[i][None], self.mask[i][None]


class FocalLoss(nn.Module):
    def __init__(self, mended: bool, gamma: float = 2.0) -> None:
        super().__init__()
        self.mended, self.gamma = mended, gamma

    def forward(self, logits, mask):
        probability = torch.sigmoid(logits)
        score = logits if self.mended else probability
        bce = F.binary_cross_entropy_with_logits(score, mask, reduction="none")
        p_true = probability * mask + (1 - probability) * (1 - mask)
        return ((1 - p_true) ** self.gamma * bce).mean()


class Segmenter(LightningModule):
    def __init__(self, mended: bool) -> None:
        super().__init__()
        self.down = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2))
        self.middle = nn.Sequential(nn.Conv2d(8, 16, 3, padding=1), nn.ReLU())
        self.up = nn.ConvTranspose2d(16, 8, 2, stride=2)
        self.out = nn.Conv2d(9, 1, 1)
        self.loss = FocalLoss(mended)

    def training_step(self, batch, batch_idx):
        image, mask = batch
        x = self.up(self.middle(self.down(image)))
        return self.loss(self.out(torch.cat([x, image], dim=1)), mask)

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=3e-3)


def main(mended: bool, seed: int) -> None:
    seed_everything(seed)
    trainer = Trainer(max_epochs=3, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(Segmenter(mended), DataLoader(Discs(400), batch_size=16, shuffle=True))
