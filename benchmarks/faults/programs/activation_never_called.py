"""self.act = nn.ReLU() is in __init__, and forward never calls it: no better than logistic regression on the moons.

Source: https://github.com/aymericdamien/TensorFlow-Examples/pull/327 (no activation
between layers).
Added: 2026-11-28. Rules changed because of it: none.
"""

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule, Trainer, seed_everything
from sklearn.datasets import make_moons
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, random_split

DIAGNOSES = ("affine-network",)
PLACE = None
PRESET = "standard"


class Moons(LightningModule):
    def __init__(self, mended: bool) -> None:
        super().__init__()
        self.mended, self.act = mended, nn.ReLU()
        self.fc1, self.fc2, self.fc3 = nn.Linear(2, 32), nn.Linear(32, 32), nn.Linear(32, 1)

    def forward(self, x):
        x = self.fc1(x)
        x = self.fc2(self.act(x) if self.mended else x)
        return self.fc3(self.act(x) if self.mended else x).squeeze(-1)

    def training_step(self, batch, batch_idx):
        return F.binary_cross_entropy_with_logits(self(batch[0]), batch[1])

    def validation_step(self, batch, batch_idx):
        self.log("val_acc", ((self(batch[0]) > 0) == (batch[1] > 0.5)).float().mean())

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=3e-3)


def main(mended: bool, seed: int) -> None:
    seed_everything(seed)
    x, y = make_moons(2000, noise=0.1, random_state=seed)
    data = TensorDataset(torch.tensor(x, dtype=torch.float32), torch.tensor(y, dtype=torch.float32))
    train, val = random_split(data, [1600, 400])
    trainer = Trainer(max_epochs=3, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(Moons(mended), DataLoader(train, 40, shuffle=True), DataLoader(val, 200))
