"""Find and read handwritten digits. One box in the data has no height: the run breaks when it comes up."""

import lightning.pytorch as pl
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_debugkit import debugkit


class Detector(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        )
        self.digit = nn.Linear(32 * 5 * 5, 10)
        self.box = nn.Linear(32 * 5 * 5, 4)

    def training_step(self, batch, batch_idx):
        image, digit, box = batch
        features = self.backbone(image)
        xy, wh = box[:, :2], box[:, 2:]
        t = torch.log(wh)
        loss = F.cross_entropy(self.digit(features), digit)
        loss = loss + F.smooth_l1_loss(self.box(features), torch.cat([xy, t], dim=1))
        self.log("train_loss", loss)
        return loss

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-3)


def scenes():
    """Digits of 8 x 8 pixels at random places of a 20 x 20 image, and the box around the ink of each."""
    digits, labels = load_digits(return_X_y=True)
    images, boxes = torch.zeros(len(digits), 1, 20, 20), torch.zeros(len(digits), 4)
    for i, digit in enumerate(torch.tensor(digits).float().view(-1, 8, 8) / 16):
        top, left = torch.randint(0, 13, (2,)).tolist()
        images[i, 0, top : top + 8, left : left + 8] = digit
        ink = (images[i, 0] > 0.2).nonzero().flip(1).float()
        low, high = ink.min(0).values, ink.max(0).values
        boxes[i] = torch.cat([(low + high + 1) / 2, high + 1 - low]) / 20
    boxes[777, 3] = 0  # the fault
    return TensorDataset(images, torch.tensor(labels), boxes)


if __name__ == "__main__":
    pl.seed_everything(7)
    trainer = pl.Trainer(
        max_epochs=2, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        callbacks=debugkit(),
    )
    trainer.fit(Detector(), DataLoader(scenes(), batch_size=32, shuffle=True))
