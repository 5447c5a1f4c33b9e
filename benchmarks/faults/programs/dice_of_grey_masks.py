"""Segmentation with a Dice loss: losses of -100, and a Dice coefficient that nobody believes.

Source: https://github.com/mateuszbuda/brain-segmentation-pytorch/issues/36 (masks in 0..255 in the Dice loss).
Added: 2026-11-28. Rules changed because of it: none.
"""

import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

DIAGNOSES = ("negative-loss", "output-range")
PLACE = None
PRESET = "standard"


class DiceLoss(nn.Module):
    def forward(self, prediction, mask):
        prediction, mask = prediction.flatten(1), mask.flatten(1)
        intersection = (prediction * mask).sum(1)
        return 1 - ((2 * intersection + 1) / (prediction.sum(1) + mask.sum(1) + 1)).mean()


class Brain(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(1, 12, 3, padding=1), nn.BatchNorm2d(12), nn.ReLU(), nn.Conv2d(12, 1, 3, padding=1), nn.Sigmoid()
        )
        self.loss = DiceLoss()

    def training_step(self, batch, batch_idx):
        image, mask = batch
        loss = self.loss(self.net(image), mask)
        self.log("dice_loss", loss)
        return loss

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-3)


def main(mended: bool, seed: int) -> None:
    seed_everything(seed)
    mask = torch.zeros(600, 1, 16, 16)
    for i, (row, column) in enumerate(torch.randint(0, 10, (600, 2)).tolist()):
        mask[i, 0, row : row + 6, column : column + 6] = 1
    image = mask + 0.5 * torch.randn_like(mask)
    if not mended:
        mask = mask * 255
    trainer = Trainer(max_epochs=3, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(Brain(), DataLoader(TensorDataset(image, mask), batch_size=20, shuffle=True))
