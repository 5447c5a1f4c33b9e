"""Wine: training accuracy 100 %, validation accuracy 40 % and a validation loss in the hundreds.

Source: https://github.com/nttcslab/byol-a/issues/5 and https://github.com/JeasunLok/ResNet-pytorch/issues/1 (the scaler
is not applied to validation).
Added: 2026-11-28. Rules changed because of it: none.
"""

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule, Trainer, seed_everything
from sklearn.datasets import load_wine
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler
from torch import nn
from torch.utils.data import DataLoader

DIAGNOSES = ("input-shift",)
PLACE = None
PRESET = "standard"


class Probe(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(13, 24), nn.ReLU(), nn.Linear(24, 3))

    def training_step(self, batch, batch_idx):
        return F.cross_entropy(self.net(batch["x"]), batch["y"])

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", F.cross_entropy(self.net(batch["x"]), batch["y"]))

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=3e-3)


def rows(x, y):
    return [{"x": torch.tensor(a, dtype=torch.float32), "y": int(b)} for a, b in zip(x, y, strict=True)]


def main(mended: bool, seed: int) -> None:
    seed_everything(seed)
    x, y = load_wine(return_X_y=True)
    x_train, x_val, y_train, y_val = train_test_split(x, y, test_size=0.3, stratify=y, random_state=seed)
    scaler = StandardScaler()
    x_train = scaler.fit_transform(x_train)
    if mended:
        x_val = scaler.transform(x_val)
    trainer = Trainer(max_epochs=10, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    train = DataLoader(rows(x_train, y_train), batch_size=16, shuffle=True)
    trainer.fit(Probe(), train, DataLoader(rows(x_val, y_val), batch_size=54))
