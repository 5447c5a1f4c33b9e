"""Boxes were rounded down to whole pixels of a feature map, and small ones have no area left: IoU is NaN or 0.

Source: https://github.com/wenwenyu/PICK-pytorch/pull/31 (boxes whose height or width is 0).
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


class Cells(Dataset):
    def __init__(self, size: int, mended: bool) -> None:
        self.image = torch.randn(size, 1, 32, 32) * 0.2
        corner = torch.randint(0, 22, (size, 2))
        box = torch.cat([corner, corner + torch.randint(2, 10, (size, 2))], dim=1)
        for i, (x1, y1, x2, y2) in enumerate(box.tolist()):
            self.image[i, 0, y1:y2, x1:x2] += 1
        self.boxes = box / 8 if mended else (box // 8).float()

    def __len__(self):
        return len(self.image)

    def __getitem__(self, i):
        return {"image": self.image[i], "boxes": self.boxes[i]}


class Localiser(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(1, 12, 5, 2), nn.ReLU(), nn.Conv2d(12, 12, 3, 2), nn.ReLU(), nn.Flatten(), nn.Linear(12 * 36, 4)
        )

    def training_step(self, batch, batch_idx):
        return F.l1_loss(self.net(batch["image"]), batch["boxes"])

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=2e-3)


def main(mended: bool, seed: int) -> None:
    seed_everything(seed)
    trainer = Trainer(max_epochs=2, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(Localiser(), DataLoader(Cells(800, mended), batch_size=20, shuffle=True))
