"""A yes/no classifier with one output and CrossEntropyLoss: the loss is 0 from the first step on, everything is "yes".

Source: https://github.com/mrdbourke/pytorch-deep-learning (a mistake its binary section warns of), and
https://stackoverflow.com/questions/45337371 (softmax over one output).
Added: 2026-11-28. Rules changed because of it: softmax-over-one (float targets).
"""

import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from sklearn.datasets import load_breast_cancer
from sklearn.preprocessing import scale
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

DIAGNOSES = ("zero-loss", "softmax-over-one")
PLACE = "one_class_logit.py:28"
PRESET = "standard"


class YesNo(LightningModule):
    def __init__(self, mended: bool) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(30, 20), nn.SELU(), nn.Linear(20, 1))
        self.loss = nn.BCEWithLogitsLoss() if mended else nn.CrossEntropyLoss()

    def training_step(self, batch, batch_idx):
        x, y = batch
        return self.loss(self.net(x), y)

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-3)


def main(mended: bool, seed: int) -> None:
    seed_everything(seed)
    x, y = load_breast_cancer(return_X_y=True)
    data = TensorDataset(torch.tensor(scale(x), dtype=torch.float32), torch.tensor(y, dtype=torch.float32)[:, None])
    trainer = Trainer(max_epochs=5, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(YesNo(mended), DataLoader(data, batch_size=40, shuffle=True))
