"""Colour patches of two photographs: the transform of training normalises each channel, that of validation does not.

Source: https://github.com/JeasunLok/ResNet-pytorch/issues/1 (normalised in training, not in testing) and
https://github.com/Reza-Safdari/SimSiam-91.9-top1-acc-on-CIFAR10/issues/4.
Added: 2026-11-30. Rules changed because of it: input-shift (pictures whose parts lie anywhere).
"""

import numpy as np
import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from sklearn.datasets import load_sample_images
from torch import nn
from torch.utils.data import DataLoader, Dataset

DIAGNOSES = ("input-shift",)
PLACE = None
PRESET = "standard"


class Scale:
    def __call__(self, image):
        return torch.from_numpy(image.transpose(2, 0, 1) / np.float32(255))


class Normalize:
    mean, std = (torch.tensor(values)[:, None, None] for values in ([0.5, 0.5, 0.45], [0.25, 0.25, 0.28]))

    def __call__(self, image):
        return (image - self.mean) / self.std


class Patches(Dataset):
    def __init__(self, corners, transforms):
        self.photos = load_sample_images().images
        self.corners, self.transforms = corners, transforms

    def __len__(self):
        return len(self.corners)

    def __getitem__(self, i):
        row, column = self.corners[i]
        image = self.photos[i % 2][row : row + 12, column : column + 12]
        for transform in self.transforms:
            image = transform(image)
        return image, i % 2


class ConvNet(LightningModule):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(3, 16, 3), nn.GroupNorm(4, 16), nn.GELU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(400, 2)
        )

    def training_step(self, batch, batch_idx):
        loss = nn.functional.cross_entropy(self.net(batch[0]), batch[1])
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", nn.functional.cross_entropy(self.net(batch[0]), batch[1]))

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-3)


def main(mended, seed):
    seed_everything(seed)
    places = np.random.default_rng(seed).permutation(400 * 400)[:1400]  # no patch twice
    corners = np.stack([places // 400, places % 400], axis=1)
    train = Patches(corners[:1100], [Scale(), Normalize()])
    val = Patches(corners[1100:], [Scale(), Normalize()] if mended else [Scale()])
    trainer = Trainer(max_epochs=2, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(ConvNet(), DataLoader(train, batch_size=44, shuffle=True), DataLoader(val, batch_size=100))
