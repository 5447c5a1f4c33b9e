"""Stochastic weight averaging from half of the epochs on, in a residual convolutional network, with a schedule.

Source: https://pytorch.org/blog/pytorch-1.6-now-includes-stochastic-weight-averaging/
Added: 2026-11-30. Rules changed because of it: none.
"""

import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from lightning.pytorch.callbacks import StochasticWeightAveraging
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, random_split

DIAGNOSES = ()
PLACE = None
PRESET = "thorough"
AGAIN = "healthy_swa"


class Residual(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True)
        )

    def forward(self, x):
        return x + self.body(x)


class SmallResNet(LightningModule):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(1, 16, 3, bias=False),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            Residual(16),
            Residual(16),
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
            nn.Linear(64, 10),
        )

    def training_step(self, batch, batch_idx):
        loss = nn.functional.cross_entropy(self.net(batch[0]), batch[1])
        self.log("loss", loss)
        return loss

    def validation_step(self, batch, batch_idx):
        output = self.net(batch[0])
        self.log("val_loss", nn.functional.cross_entropy(output, batch[1]))
        self.log("val_acc", (output.argmax(1) == batch[1]).float().mean())

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
        return [optimizer], [torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 8)]


def main(mended, seed):
    seed_everything(seed)
    digits = load_digits()
    image = torch.tensor(digits.images, dtype=torch.float32)[:, None] / 8 - 0.6
    train, val = random_split(TensorDataset(image, torch.tensor(digits.target)), [1437, 360])
    trainer = Trainer(
        max_epochs=6,
        callbacks=[StochasticWeightAveraging(swa_lrs=0.01, swa_epoch_start=0.5, annealing_epochs=2)],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
    )
    trainer.fit(SmallResNet(), DataLoader(train, 64, shuffle=True), DataLoader(val, 120))
