"""Multi-channel sensor windows, reshaped "so that the convolution fits": 30 % accuracy in training, forever.

Source: https://github.com/Jingkang50/OpenPSG/issues/56 and https://github.com/zamanzadeh/CARLA/issues/16 (view in place
of transpose moves data between samples).
Added: 2026-11-28. Rules changed because of it: view-for-transpose (a rule of its own).
Missed: view-for-transpose is told, with the line that mends it; the diagnoses are not changed after a run.
"""

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule, Trainer, seed_everything
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

DIAGNOSES = ("batch-leak",)
PLACE = "view_swaps_batch_and_channel.py:31"
PRESET = "standard"


class Activity(LightningModule):
    def __init__(self, mended: bool) -> None:
        super().__init__()
        self.mended = mended
        self.conv = nn.Sequential(nn.Conv1d(3, 24, 5), nn.ReLU(), nn.AdaptiveMaxPool1d(4), nn.Flatten())
        self.out = nn.Linear(96, 4)

    def forward(self, windows):  # sensors first, as the collate function stacks them: (3, batch, time)
        if self.mended:
            windows = windows.transpose(0, 1)
        else:
            windows = windows.view(windows.shape[1], 3, -1)
        return self.out(self.conv(windows))

    def training_step(self, batch, batch_idx):
        return F.cross_entropy(self(batch["windows"]), batch["activity"])

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", F.cross_entropy(self(batch["windows"]), batch["activity"]), batch_size=50)

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=3e-3)


def collate(samples):
    windows, activity = zip(*samples, strict=True)
    return {"windows": torch.stack(windows, dim=1), "activity": torch.stack(activity)}


def recordings(size: int) -> TensorDataset:
    activity = torch.randint(4, (size,))
    wave = torch.sin(torch.arange(40) * (0.2 + 0.2 * activity[:, None]) + torch.rand(size, 1) * 6.28)
    return TensorDataset(
        wave[:, None] * torch.tensor([1.0, 0.5, -1.0])[:, None] + 0.3 * torch.randn(size, 3, 40), activity
    )


def main(mended: bool, seed: int) -> None:
    seed_everything(seed)
    trainer = Trainer(max_epochs=2, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    train = DataLoader(recordings(1500), 30, shuffle=True, collate_fn=collate)
    trainer.fit(Activity(mended), train, DataLoader(recordings(200), 50, collate_fn=collate))
