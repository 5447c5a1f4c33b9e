"""Digits read row by row by an LSTM: the loss is negative from the second epoch on and falls without end.

Source: https://github.com/pytorch/pytorch/issues/10033 (nll_loss given something else than log-probabilities).
Added: 2026-11-28. Rules changed because of it: none.
"""

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule, Trainer, seed_everything
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

DIAGNOSES = ("missing-log-softmax",)
PLACE = "nll_of_logits.py:33"
PRESET = "standard"


class RowReader(LightningModule):
    def __init__(self, mended: bool) -> None:
        super().__init__()
        self.mended = mended
        self.lstm = nn.LSTM(8, 40, batch_first=True)
        self.fc = nn.Linear(40, 10)

    def forward(self, rows):
        output, _ = self.lstm(rows)
        score = self.fc(output[:, -1])
        return F.log_softmax(score, dim=1) if self.mended else score

    def training_step(self, batch, batch_idx):
        rows, digit = batch
        loss = F.nll_loss(self(rows), digit)
        self.log("train_loss", loss)
        return loss

    def configure_optimizers(self):
        return torch.optim.RMSprop(self.parameters(), lr=1e-3)


def main(mended: bool, seed: int) -> None:
    seed_everything(seed)
    digits = load_digits()
    rows = torch.tensor(digits.images, dtype=torch.float32) / 8 - 1
    loader = DataLoader(TensorDataset(rows, torch.tensor(digits.target)), batch_size=64, shuffle=True)
    trainer = Trainer(max_epochs=4, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(RowReader(mended), loader)
