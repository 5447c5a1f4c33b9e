"""Depth maps of (B, 1, H, W) against targets of (B, H, W): the network learns the mean depth map of the batch.

Source: https://github.com/pytorch/pytorch/issues/4938 and https://github.com/weka511/hpa-scc/issues/38
(sizes that broadcast).
Added: 2026-11-28. Rules changed because of it: none.
"""

import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

DIAGNOSES = ("shape-broadcast",)
PLACE = "broadcast_depth_maps.py:30"
PRESET = "standard"


class Depth(LightningModule):
    def __init__(self, mended: bool) -> None:
        super().__init__()
        self.mended = mended
        self.net = nn.Sequential(nn.Conv2d(2, 16, 3, padding=1), nn.LeakyReLU(), nn.Conv2d(16, 1, 3, padding=1))
        self.loss = nn.L1Loss()

    def training_step(self, batch, batch_idx):
        pair, target = batch
        depth = self.net(pair)
        if self.mended:
            depth = depth.squeeze(1)
        return self.loss(depth, target)

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=2e-3)


def main(mended: bool, seed: int) -> None:
    seed_everything(seed)
    left = torch.randn(800, 1, 14, 14)
    shift = torch.rand(800, 1, 1, 1)
    right = shift * left.roll(1, dims=3) + (1 - shift) * left
    target = (left - right).abs().squeeze(1)
    data = TensorDataset(torch.cat([left, right], dim=1), target)
    trainer = Trainer(max_epochs=3, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(Depth(mended), DataLoader(data, batch_size=20, shuffle=True))
