"""Validation accuracy on wine jumps by 5 points between two runs of trainer.validate with the same checkpoint.

Source: https://github.com/pytorch/pytorch/issues/11999 and https://github.com/pytorch/pytorch/issues/26338 (dropout
that eval() does not reach).
Added: 2026-11-28. Rules changed because of it: stochastic-eval (modules built in forward).
"""

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule, Trainer, seed_everything
from sklearn.datasets import load_wine
from sklearn.preprocessing import scale
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, random_split

DIAGNOSES = ("stochastic-eval",)
PLACE = "dropout_built_in_forward.py:32"
PRESET = "standard"


class WineNet(LightningModule):
    def __init__(self, mended: bool) -> None:
        super().__init__()
        self.mended = mended
        self.fc1, self.fc2 = nn.Linear(13, 40), nn.Linear(40, 3)
        self.dropout = nn.Dropout(0.4)

    def forward(self, x):
        h = F.elu(self.fc1(x))
        if self.mended:
            return self.fc2(self.dropout(h))
        h = nn.Dropout(0.4)(h)
        return self.fc2(h)

    def training_step(self, batch, batch_idx):
        return F.cross_entropy(self(batch[0]), batch[1])

    def validation_step(self, batch, batch_idx):
        self.log("val_acc", (self(batch[0]).argmax(1) == batch[1]).float().mean())

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=3e-3)


def main(mended: bool, seed: int) -> None:
    seed_everything(seed)
    x, y = load_wine(return_X_y=True)
    train, val = random_split(TensorDataset(torch.tensor(scale(x), dtype=torch.float32), torch.tensor(y)), [130, 48])
    trainer = Trainer(max_epochs=8, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(WineNet(mended), DataLoader(train, 13, shuffle=True), DataLoader(val, 48))
