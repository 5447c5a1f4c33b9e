"""A convolutional network with batch norm on digits: validation accuracy sticks at 15 %.

Source: https://github.com/PolymathicAI/the_well/issues/68 (normalisation only passed on to the training data) and
https://github.com/leeyeehoo/CSRNet-pytorch/issues/25.
Added: 2026-11-28. Rules changed because of it: input-shift.
"""

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningDataModule, LightningModule, Trainer, seed_everything
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, Dataset

DIAGNOSES = ("input-shift",)
PLACE = None
PRESET = "standard"


class DigitImages(Dataset):
    def __init__(self, indices: range, use_normalization: bool = False) -> None:
        digits = load_digits()
        self.images = torch.tensor(digits.images, dtype=torch.float32)[list(indices), None] / 16
        self.labels = torch.tensor(digits.target)[list(indices)]
        self.use_normalization = use_normalization

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, i):
        image = self.images[i]
        return (image - 0.305) / 0.376 if self.use_normalization else image, self.labels[i]


class Data(LightningDataModule):
    def __init__(self, mended: bool) -> None:
        super().__init__()
        self.train = DigitImages(range(1300), use_normalization=True)
        self.val = DigitImages(range(1300, 1797), **({"use_normalization": True} if mended else {}))

    def train_dataloader(self):
        return DataLoader(self.train, batch_size=32, shuffle=True)

    def val_dataloader(self):
        return DataLoader(self.val, batch_size=128)


class BNNet(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(1, 16, 3, bias=False), nn.BatchNorm2d(16), nn.ReLU(), nn.Flatten(), nn.Linear(16 * 36, 10)
        )

    def training_step(self, batch, batch_idx):
        return F.cross_entropy(self.net(batch[0]), batch[1])

    def validation_step(self, batch, batch_idx):
        self.log("val_acc", (self.net(batch[0]).argmax(1) == batch[1]).float().mean())

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.05, momentum=0.9)


def main(mended: bool, seed: int) -> None:
    seed_everything(seed)
    trainer = Trainer(max_epochs=2, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(BNNet(), datamodule=Data(mended))
