"""Three regions of a cell in a grey picture of 0, 127 and 255: "Target 127 is out of bounds".

Source: https://github.com/milesial/Pytorch-UNet/issues/375 (masks whose values are not class indices).
Added: 2026-11-30. Rules changed because of it: none.
"""

import numpy as np
import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from torch import nn
from torch.utils.data import DataLoader, Dataset

DIAGNOSES = ("label-out-of-range",)
PLACE = "trimap_in_grey.py:59"
PRESET = "standard"
AGAIN = "labels_grey_values"

GREY = np.array([0, 127, 255], dtype=np.uint8)


class Cells(Dataset):
    """A disc with a nucleus, somewhere."""

    def __init__(self, size, seed, mended):
        rng = np.random.default_rng(seed)
        y, x = np.mgrid[:16, :16]
        centre = rng.integers(5, 11, (size, 2, 1, 1))
        distance = np.hypot(y - centre[:, 0], x - centre[:, 1])
        region = (distance < 5).astype(int) + (distance < 2)
        self.pictures = (region + 0.3 * rng.normal(size=region.shape)).astype(np.float32)
        self.masks, self.mended = GREY[region], mended

    def __len__(self):
        return len(self.pictures)

    def __getitem__(self, i):
        mask = self.masks[i]
        if self.mended:
            mask = np.searchsorted(GREY, mask)
        return torch.from_numpy(self.pictures[i])[None], torch.from_numpy(mask.astype(np.int64))


class UNet(LightningModule):
    def __init__(self):
        super().__init__()
        self.down = nn.Conv2d(1, 12, 3, padding=1)
        self.bottom = nn.Conv2d(12, 24, 3, padding=1)
        self.up = nn.ConvTranspose2d(24, 12, 2, stride=2)
        self.out = nn.Conv2d(24, 3, 1)

    def forward(self, picture):
        fine = torch.relu(self.down(picture))
        coarse = torch.relu(self.bottom(nn.functional.max_pool2d(fine, 2)))
        return self.out(torch.cat([fine, torch.relu(self.up(coarse))], 1))

    def training_step(self, batch, batch_idx):
        picture, mask = batch
        logits = self(picture)
        loss = nn.functional.cross_entropy(logits, mask)
        self.log("loss", loss)
        return loss

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=2e-3)


def main(mended, seed):
    seed_everything(seed)
    trainer = Trainer(max_epochs=2, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(UNet(), DataLoader(Cells(320, seed, mended), batch_size=20, shuffle=True))
