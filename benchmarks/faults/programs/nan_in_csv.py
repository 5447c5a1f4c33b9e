"""A table with three empty cells: the loss is NaN somewhere in the first epoch, at another step each time.

Source: https://stackoverflow.com/questions/51835124 and https://github.com/pytorch-tabular/pytorch_tabular/issues/173
(missing values are passed on).
Added: 2026-11-28. Rules changed because of it: none.
"""

import io

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule, Trainer, seed_everything
from sklearn.datasets import load_diabetes
from torch import nn
from torch.utils.data import DataLoader, Dataset

DIAGNOSES = ("nonfinite-input",)
PLACE = "211"
PRESET = "standard"


def read_table() -> pd.DataFrame:
    """The table as it comes out of a CSV file, with empty cells in row 211."""
    table = load_diabetes(as_frame=True).frame
    table.loc[211, ["bmi", "bp"]] = np.nan
    return pd.read_csv(io.StringIO(table.to_csv(index=False)))


class Table(Dataset):
    def __init__(self, table: pd.DataFrame) -> None:
        self.x = table.drop(columns="target").to_numpy("float32") * 20
        self.y = ((table["target"] - 150) / 77).to_numpy("float32")

    def __len__(self):
        return len(self.y)

    def __getitem__(self, i):
        return {"x": self.x[i], "y": self.y[i]}


class Progression(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(10, 32), nn.Softplus(), nn.Linear(32, 1), nn.Flatten(0))

    def training_step(self, batch, batch_idx):
        return F.mse_loss(self.net(batch["x"]), batch["y"])

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=2e-3)


def main(mended: bool, seed: int) -> None:
    seed_everything(seed)
    table = read_table()
    if mended:
        table = table.fillna(table.mean())
    trainer = Trainer(max_epochs=5, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(Progression(), DataLoader(Table(table), batch_size=26, shuffle=True))
