"""Colour tiles pass Normalize in the dataset and again in the model's preprocessing: the start is slow, and pale
images are no longer told apart.

Source: https://github.com/talshaharabany/AutoSAM/issues/3 (in the dataset and again before the call) and
https://github.com/hao-ai-lab/FastVideo/pull/1055.
Added: 2026-11-28. Rules changed because of it: none.
"""

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule, Trainer, seed_everything
from torch import nn
from torch.utils.data import DataLoader, Dataset

DIAGNOSES = ("input-not-normalized",)
PLACE = None
PRESET = "standard"
MEAN, STD = torch.tensor([0.485, 0.456, 0.406])[:, None, None], torch.tensor([0.229, 0.224, 0.225])[:, None, None]


class Tiles(Dataset):
    def __init__(self, size: int) -> None:
        self.kind = torch.randint(3, (size,))
        image = torch.rand(size, 3, 16, 16)
        for i, k in enumerate(self.kind.tolist()):
            image[i, k] = (image[i, k] + 0.15).clamp(max=1)
        self.image = (image - MEAN) / STD

    def __len__(self):
        return len(self.kind)

    def __getitem__(self, i):
        return {"image": self.image[i], "kind": self.kind[i]}


class TileNet(LightningModule):
    def __init__(self, mended: bool) -> None:
        super().__init__()
        self.mended = mended
        self.net = nn.Sequential(
            nn.Conv2d(3, 16, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(64, 3)
        )

    def training_step(self, batch, batch_idx):
        image = batch["image"]
        if not self.mended:
            image = (image / 255 - MEAN) / STD
        return F.cross_entropy(self.net(image), batch["kind"])

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=2e-3)


def main(mended: bool, seed: int) -> None:
    seed_everything(seed)
    trainer = Trainer(max_epochs=3, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(TileNet(mended), DataLoader(Tiles(900), batch_size=30, shuffle=True))
