"""A detector in torchvision's manner, annotated as COCO has it (x, y, width, height): boxes have negative sizes.

Source: https://github.com/pytorch/vision/issues/1128 (the data has x, y, w, h) and
https://github.com/pytorch/vision/issues/2740.
Added: 2026-11-28. Rules changed because of it: none.
"""

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule, Trainer, seed_everything
from torch import nn
from torch.utils.data import DataLoader, Dataset

DIAGNOSES = ("degenerate-box",)
PLACE = None
PRESET = "standard"


class Scenes(Dataset):
    """Two bright rectangles on each image of 32 x 32 pixels."""

    def __init__(self, size: int, mended: bool) -> None:
        self.size, self.mended = size, mended

    def __len__(self):
        return self.size

    def __getitem__(self, i):
        generator = torch.Generator().manual_seed(i)
        image = torch.rand(3, 32, 32, generator=generator) * 0.3
        xy = torch.randint(0, 20, (2, 2), generator=generator)
        wh = torch.randint(5, 12, (2, 2), generator=generator)
        for (x, y), (w, h) in zip(xy.tolist(), wh.tolist(), strict=True):
            image[:, y : y + h, x : x + w] = 1
        corner = xy + wh if self.mended else wh
        target = {"boxes": torch.cat([xy, corner], dim=1).float(), "labels": torch.ones(2, dtype=torch.long)}
        return image, target


def collate(samples):
    return tuple(zip(*samples, strict=True))


class Detector(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(
            nn.Conv2d(3, 16, 3, stride=2), nn.ReLU(), nn.Conv2d(16, 16, 3, stride=2), nn.ReLU(), nn.Flatten()
        )
        self.box = nn.Linear(16 * 49, 8)

    def training_step(self, batch, batch_idx):
        images, targets = batch
        boxes = torch.stack([target["boxes"] for target in targets]) / 32
        return F.smooth_l1_loss(self.box(self.backbone(torch.stack(images))).view(-1, 2, 4), boxes)

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-3)


def main(mended: bool, seed: int) -> None:
    seed_everything(seed)
    loader = DataLoader(Scenes(640, mended), batch_size=16, shuffle=True, collate_fn=collate)
    trainer = Trainer(max_epochs=2, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(Detector(), loader)
