"""Iris is learned slowly, and the loss hangs at 0.55 although all flowers are classified correctly.

Source: https://github.com/Lightning-AI/lightning-bolts/issues/654 (softmax, then log_softmax, then nll).
Added: 2026-11-28. Rules changed because of it: double-softmax (its place).
"""

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule, Trainer, seed_everything
from sklearn.datasets import load_iris
from sklearn.preprocessing import scale
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

DIAGNOSES = ("double-softmax",)
PLACE = "softmax_then_log_softmax.py:30"
PRESET = "standard"


class IrisModel(LightningModule):
    def __init__(self, mended: bool) -> None:
        super().__init__()
        self.mended = mended
        self.l1 = nn.Linear(4, 24)
        self.l2 = nn.Linear(24, 3)

    def forward(self, x):
        if self.mended:
            return self.l2(torch.tanh(self.l1(x)))
        return F.softmax(self.l2(torch.tanh(self.l1(x))), dim=-1)

    def training_step(self, batch, batch_idx):
        x, y = batch
        log_probability = F.log_softmax(self(x), dim=-1)
        loss = F.nll_loss(log_probability, y)
        self.log("loss", loss, prog_bar=True)
        return loss

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)


def main(mended: bool, seed: int) -> None:
    seed_everything(seed)
    x, y = load_iris(return_X_y=True)
    data = TensorDataset(torch.tensor(scale(x), dtype=torch.float32), torch.tensor(y))
    trainer = Trainer(max_epochs=12, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(IrisModel(mended), DataLoader(data, batch_size=16, shuffle=True))
