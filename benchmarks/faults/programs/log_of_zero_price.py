"""Targets are log-prices, and two houses were given away for 0: the loss is infinite in some step of the first epoch.

Source: https://stackoverflow.com/questions/53640858 (values that are not finite in the data) and
https://github.com/Nixtla/neuralforecast/issues/186.
Added: 2026-11-28. Rules changed because of it: none.
"""

import numpy as np
import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule, Trainer, seed_everything
from torch import nn
from torch.utils.data import DataLoader, Dataset

DIAGNOSES = ("nonfinite-input",)
PLACE = "413"
PRESET = "standard"


class Houses(Dataset):
    def __init__(self, seed: int, mended: bool) -> None:
        rng = np.random.default_rng(seed)
        self.x = rng.normal(size=(900, 6)).astype("float32")
        price = np.exp(0.5 * self.x[:, 0] + 0.2 * self.x[:, 1] + 0.1 * rng.normal(size=900))
        price[413] = 0.0
        with np.errstate(divide="ignore"):
            self.log_price = (np.log1p(price) if mended else np.log(price)).astype("float32")

    def __len__(self):
        return len(self.x)

    def __getitem__(self, i):
        return self.x[i], self.log_price[i]


class Regression(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(6, 24), nn.ReLU(), nn.Linear(24, 1), nn.Flatten(0))

    def training_step(self, batch, batch_idx):
        return F.mse_loss(self.net(batch[0]), batch[1])

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=2e-3)


def main(mended: bool, seed: int) -> None:
    seed_everything(seed)
    trainer = Trainer(max_epochs=2, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(Regression(), DataLoader(Houses(seed, mended), batch_size=30, shuffle=True))
