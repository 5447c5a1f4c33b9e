"""Rows with a gap were dropped from the features, not from the labels, which were then cut to the same length.

Source: https://github.com/pykale/pykale/issues/553 (two frames that are taken to be aligned) and
https://stackoverflow.com/questions/40467990.
Added: 2026-11-30. Rules changed because of it: none.
"""

import numpy as np
import pandas as pd
import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from sklearn.datasets import make_classification
from torch import nn
from torch.utils.data import DataLoader

DIAGNOSES = ("labels-unrelated-to-inputs",)
PLACE = None
PRESET = "standard"
AGAIN = "table_joined_on_row_number"


class Sensors(LightningModule):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(8, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 4))

    def training_step(self, batch, batch_idx):
        loss = nn.functional.cross_entropy(self.net(batch["x"]), batch["y"])
        self.log("loss", loss)
        return loss

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=3e-3)


def records(mended, seed):
    x, y = make_classification(
        2000, 8, n_informative=6, n_redundant=0, n_classes=4, n_clusters_per_class=1, class_sep=1.5, random_state=seed
    )
    table, labels = pd.DataFrame(x).astype("float32"), pd.Series(y)
    table = table.mask(np.random.default_rng(seed).random(table.shape) < 0.02)
    table = table.dropna()
    labels = labels[table.index] if mended else labels[: len(table)]
    return [
        {"x": torch.tensor(row), "y": int(label)}
        for row, label in zip(table.to_numpy(), labels.to_numpy(), strict=True)
    ]


def main(mended, seed):
    seed_everything(seed)
    trainer = Trainer(max_epochs=4, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(Sensors(), DataLoader(records(mended, seed), batch_size=40, shuffle=True))
