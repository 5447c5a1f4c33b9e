"""A curriculum: the sampler gives the easy (clean) samples first and all of them later.

Source: https://dl.acm.org/doi/10.1145/1553374.1553380
Added: 2026-11-28. Rules changed because of it: none.
"""

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule, Trainer, seed_everything
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, Sampler, TensorDataset

DIAGNOSES = ()
PLACE = None
PRESET = "thorough"


class Curriculum(Sampler):
    def __init__(self, difficulty: torch.Tensor) -> None:
        self.order, self.epoch = difficulty.argsort(), 0

    def __len__(self):
        return 1400

    def __iter__(self):
        self.epoch += 1
        known = self.order[: min(500 + 400 * self.epoch, len(self.order))]
        yield from known[torch.randint(len(known), (1400,))].tolist()


class Net(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))

    def training_step(self, batch, batch_idx):
        return F.cross_entropy(self.net(batch[0]), batch[1])

    def validation_step(self, batch, batch_idx):
        self.log("val_acc", (self.net(batch[0]).argmax(1) == batch[1]).float().mean())

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=2e-3)


def main(mended: bool, seed: int) -> None:
    seed_everything(seed)
    digits = load_digits()
    order = torch.randperm(1797)
    x, y = torch.tensor(digits.data / 8 - 1, dtype=torch.float32)[order], torch.tensor(digits.target)[order]
    noise = torch.rand(1797)
    x = x + noise[:, None] * torch.randn(1797, 64)
    train, val = TensorDataset(x[:1500], y[:1500]), TensorDataset(x[1500:], y[1500:])
    trainer = Trainer(max_epochs=3, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(Net(), DataLoader(train, 35, sampler=Curriculum(noise[:1500])), DataLoader(val, 100))
