"""A rare and a frequent kind of image; each sample's loss is weighed by the effective number of its class, by hand.

Source: https://arxiv.org/abs/1901.05555 (class-balanced loss based on the effective number of samples).
Added: 2026-11-30. Rules changed because of it: none.
"""

import numpy as np
import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

DIAGNOSES = ()
PLACE = None
PRESET = "thorough"
AGAIN = "healthy_imbalanced_weights"


class Balanced(LightningModule):
    def __init__(self, counts):
        super().__init__()
        effective = (1 - 0.999 ** torch.tensor(counts, dtype=torch.float32)) / (1 - 0.999)
        self.register_buffer("weight", len(counts) / effective / (1 / effective).sum())
        self.net = nn.Sequential(
            nn.Conv2d(1, 16, 3), nn.ReLU(), nn.Conv2d(16, 32, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(128, 4)
        )

    def loss(self, batch):
        image, label = batch
        each = nn.functional.cross_entropy(self.net(image), label, reduction="none")
        weight = self.weight[label]
        return (weight * each).sum() / weight.sum()

    def training_step(self, batch, batch_idx):
        loss = self.loss(batch)
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", self.loss(batch))

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=2e-3)


def main(mended, seed):
    seed_everything(seed)
    rng = np.random.default_rng(seed)
    digits = load_digits(n_class=4)
    keep = np.concatenate(
        [rng.permutation(np.flatnonzero(digits.target == k))[:size] for k, size in enumerate((170, 170, 50, 17))]
    )
    keep = rng.permutation(keep)
    image = torch.tensor(digits.images[keep], dtype=torch.float32)[:, None] / 8 - 1
    label = torch.tensor(digits.target[keep])
    train, val = TensorDataset(image[:330], label[:330]), TensorDataset(image[330:], label[330:])
    trainer = Trainer(max_epochs=8, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    model = Balanced(np.bincount(digits.target[keep][:330]))
    trainer.fit(model, DataLoader(train, 33, shuffle=True), DataLoader(val, 77))
