"""Two cameras and a pose, nested three deep; one depth image holds NaN where the sensor saw nothing.

Source: https://stackoverflow.com/questions/53640858 (NaN in the input, found by hand after days).
Added: 2026-11-28. Rules changed because of it: none.
"""

from typing import NamedTuple

import torch
from lightning import LightningModule, Trainer, seed_everything
from torch import nn
from torch.utils.data import DataLoader, Dataset

DIAGNOSES = ("nonfinite-input",)
PLACE = "depth"
PRESET = "standard"


class Camera(NamedTuple):
    grey: torch.Tensor
    depth: torch.Tensor


class Drive(Dataset):
    def __init__(self, mended):
        self.grey, self.depth = torch.rand(240, 2, 1, 10, 10), torch.rand(240, 2, 1, 10, 10) + 1
        self.speed = self.depth.mean((1, 2, 3, 4)) * 3 + self.grey[:, 0].mean((1, 2, 3))
        if not mended:
            self.depth[66, 1, 0, 2:4, 5] = float("nan")

    def __len__(self):
        return len(self.speed)

    def __getitem__(self, index):
        left, right = (Camera(self.grey[index, k], self.depth[index, k]) for k in (0, 1))
        return {"cameras": (left, right), "speed": self.speed[index]}


class Speed(LightningModule):
    def __init__(self):
        super().__init__()
        self.eye = nn.Sequential(
            nn.Conv2d(2, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten()
        )
        self.head = nn.Linear(64, 1)

    def training_step(self, batch, batch_idx):
        seen = [self.eye(torch.cat([camera.grey, camera.depth], 1)) for camera in batch["cameras"]]
        loss = nn.functional.huber_loss(self.head(torch.cat(seen, 1)).squeeze(1), batch["speed"])
        self.log("loss", loss, batch_size=len(batch["speed"]))
        return loss

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-3)


def main(mended, seed):
    seed_everything(seed)
    trainer = Trainer(max_epochs=3, accelerator="cpu", enable_progress_bar=False, enable_model_summary=False)
    trainer.fit(Speed(), DataLoader(Drive(mended), batch_size=12, shuffle=True))
