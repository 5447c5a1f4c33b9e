"""Images as bytes of 0..255: the model itself subtracts and divides, as many exported networks do.

Source: https://docs.pytorch.org/vision/stable/models.html (weights that bring their own preprocessing)
Added: 2026-11-28. Rules changed because of it: none.
"""

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule, Trainer, seed_everything
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, random_split

DIAGNOSES = ()
PLACE = None
PRESET = "thorough"


class Bytes(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(78.0))
        self.register_buffer("std", torch.tensor(95.0))
        self.net = nn.Sequential(nn.Conv2d(1, 16, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(144, 10))

    def forward(self, image):
        return self.net((image.float() - self.mean) / self.std)

    def training_step(self, batch, batch_idx):
        return F.cross_entropy(self(batch[0]), batch[1])

    def validation_step(self, batch, batch_idx):
        self.log("val_acc", (self(batch[0]).argmax(1) == batch[1]).float().mean())

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=3e-3)


def main(mended: bool, seed: int) -> None:
    seed_everything(seed)
    digits = load_digits()
    image = (torch.tensor(digits.images) * 15.9).to(torch.uint8)[:, None]
    train, val = random_split(TensorDataset(image, torch.tensor(digits.target)), [1500, 297])
    trainer = Trainer(max_epochs=3, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(Bytes(), DataLoader(train, 30, shuffle=True), DataLoader(val, 99))
