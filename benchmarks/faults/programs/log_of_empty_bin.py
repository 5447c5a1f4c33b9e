"""The loss of a histogram matching network is inf in the third step, and NaN ever after.

Source: https://stackoverflow.com/questions/40192728 (log(0) in a hand-written cross-entropy).
Added: 2026-11-28. Rules changed because of it: none.
"""

import torch
from lightning import LightningModule, Trainer, seed_everything
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

DIAGNOSES = ("nonfinite-loss",)
PLACE = "torch.log(target)"
PRESET = "standard"


class RowMass(LightningModule):
    """Predicts how the ink of a digit is spread over its rows, from its columns."""

    def __init__(self, mended):
        super().__init__()
        self.mended = mended
        self.net = nn.Sequential(nn.Linear(8, 32), nn.GELU(), nn.Linear(32, 8))

    def training_step(self, batch, batch_idx):
        columns, rows = batch
        target = rows / rows.sum(1, keepdim=True)
        if self.mended:
            target = (target + 1e-6) / (target + 1e-6).sum(1, keepdim=True)
        log_p = self.net(columns).log_softmax(1)
        loss = (log_p.exp() * (log_p - torch.log(target))).sum(1).mean()
        self.log("train_loss", loss)
        return loss

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=3e-3)


def main(mended, seed):
    seed_everything(seed)
    ink = torch.tensor(load_digits().images, dtype=torch.float32) / 16
    rows = ink.sum(2)
    rows = rows[rows.min(1).values > 0][:800]  # digits that reach every row
    columns = ink.sum(1)[ink.sum(2).min(1).values > 0][:800] / 4
    rows[417, 7] = 0  # a crop that lost its last row
    data = TensorDataset(columns, rows)
    trainer = Trainer(max_epochs=2, accelerator="cpu", enable_progress_bar=False, enable_model_summary=False)
    trainer.fit(RowMass(mended), DataLoader(data, batch_size=40, shuffle=True))
