"""A scaler was fitted on the whole table, label column included: 100 % on two classes, the third is never predicted.

Source: https://github.com/JindongJiang/RedNet/issues/13 (labels that are floats, and a cast to long that moves them).
Added: 2026-11-28. Rules changed because of it: none.
"""

import pandas as pd
import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule, Trainer, seed_everything
from sklearn.datasets import load_iris
from sklearn.preprocessing import MinMaxScaler
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

DIAGNOSES = ("label-not-integral",)
PLACE = None
PRESET = "standard"


class Flowers(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, 3))

    def training_step(self, batch, batch_idx):
        x, y = batch
        return F.cross_entropy(self.net(x), y.long())

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-2)


def main(mended: bool, seed: int) -> None:
    seed_everything(seed)
    x, y = load_iris(return_X_y=True)
    table = pd.DataFrame(x, columns=["sl", "sw", "pl", "pw"])
    table["species"] = y
    scaled = pd.DataFrame(MinMaxScaler().fit_transform(table), columns=table.columns)
    if mended:
        scaled["species"] = table["species"]
    features = torch.tensor(scaled.drop(columns="species").to_numpy(), dtype=torch.float32)
    labels = torch.tensor(scaled["species"].to_numpy(), dtype=torch.float32)
    trainer = Trainer(max_epochs=8, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(Flowers(), DataLoader(TensorDataset(features, labels), batch_size=15, shuffle=True))
