"""Mixup on digits: targets are probabilities, in validation they are class numbers.

Source: https://arxiv.org/abs/1710.09412
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


class Mixup(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(256, 10),
        )

    def training_step(self, batch, batch_idx):
        image, digit = batch
        share = torch.distributions.Beta(0.4, 0.4).sample()
        order = torch.randperm(len(image), device=self.device)
        target = F.one_hot(digit, 10).float()
        image = share * image + (1 - share) * image[order]
        target = share * target + (1 - share) * target[order]
        return F.cross_entropy(self.net(image), target)

    def validation_step(self, batch, batch_idx):
        score = self.net(batch[0])
        self.log("val_loss", F.cross_entropy(score, batch[1]))
        self.log("val_acc", (score.argmax(1) == batch[1]).float().mean())

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-4)


def main(mended: bool, seed: int) -> None:
    seed_everything(seed)
    digits = load_digits()
    image = (torch.tensor(digits.images, dtype=torch.float32)[:, None] / 16 - 0.3) / 0.37
    train, val = random_split(TensorDataset(image, torch.tensor(digits.target)), [1500, 297])
    trainer = Trainer(max_epochs=3, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(Mixup(), DataLoader(train, 32, shuffle=True), DataLoader(val, 100))
