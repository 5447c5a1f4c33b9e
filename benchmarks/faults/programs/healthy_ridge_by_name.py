"""Plain linear regression, standardised, with targets of mean 0: a network that is affine because it should be.

Source: https://scikit-learn.org/stable/auto_examples/linear_model/plot_ols_ridge.html
Added: 2026-11-28. Rules changed because of it: none.
"""

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule, Trainer, seed_everything
from sklearn.datasets import load_diabetes
from sklearn.preprocessing import scale
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, random_split

DIAGNOSES = ()
PLACE = None
PRESET = "thorough"


class Ridge(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.line = nn.Linear(10, 1)

    def training_step(self, batch, batch_idx):
        x, y = batch
        return F.mse_loss(self.line(x), y) + 1e-2 * (self.line.weight**2).sum()

    def validation_step(self, batch, batch_idx):
        self.log("val_mse", F.mse_loss(self.line(batch[0]), batch[1]))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.02)


def main(mended: bool, seed: int) -> None:
    seed_everything(seed)
    x, y = load_diabetes(return_X_y=True)
    x, y = torch.tensor(scale(x), dtype=torch.float32), torch.tensor(scale(y), dtype=torch.float32)[:, None]
    train, val = random_split(TensorDataset(x, y), [350, 92])
    trainer = Trainer(max_epochs=10, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(Ridge(), DataLoader(train, 25, shuffle=True), DataLoader(val, 92))
