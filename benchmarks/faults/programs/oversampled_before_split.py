"""Rare cases were oversampled, then the table was split: F1 of 0.99 in validation, 0.3 in the hospital.

Source: https://github.com/georgymh/ml-fraud-detection/issues/1 (oversampling before the split).
Added: 2026-11-28. Rules changed because of it: train-val-overlap (tables).
"""

import pandas as pd
import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule, Trainer, seed_everything
from sklearn.datasets import make_classification
from sklearn.model_selection import train_test_split
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

DIAGNOSES = ("train-val-overlap",)
PLACE = None
PRESET = "standard"


class Risk(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(15, 64), nn.ReLU(), nn.Linear(64, 1), nn.Flatten(0))

    def training_step(self, batch, batch_idx):
        return F.binary_cross_entropy_with_logits(self.net(batch[0]), batch[1])

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", F.binary_cross_entropy_with_logits(self.net(batch[0]), batch[1]))

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=2e-3)


def oversample(table: pd.DataFrame, seed: int) -> pd.DataFrame:
    rare, common = table[table["ill"] == 1], table[table["ill"] == 0]
    return pd.concat([common, rare.sample(len(common), replace=True, random_state=seed)])


def dataset(table: pd.DataFrame) -> TensorDataset:
    x = torch.tensor(table.drop(columns="ill").to_numpy(), dtype=torch.float32)
    return TensorDataset(x, torch.tensor(table["ill"].to_numpy(), dtype=torch.float32))


def main(mended: bool, seed: int) -> None:
    seed_everything(seed)
    x, y = make_classification(1500, 15, n_informative=6, weights=[0.9], random_state=seed)
    table = pd.DataFrame(x).assign(ill=y)
    if mended:
        train, val = train_test_split(table, test_size=0.2, stratify=table["ill"], random_state=seed)
        train = oversample(train, seed)
    else:
        train, val = train_test_split(oversample(table, seed), test_size=0.2, random_state=seed)
    trainer = Trainer(max_epochs=3, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(Risk(), DataLoader(dataset(train), 32, shuffle=True), DataLoader(dataset(val), 100))
