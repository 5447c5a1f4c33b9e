"""Regression: the loss falls to the variance of the target and stays; was the model too small, the rate too low?

Source: https://stackoverflow.com/questions/40467990 (labels shuffled apart from their inputs).
Added: 2026-11-28. Rules changed because of it: labels-unrelated-to-inputs (numbers to be predicted).
"""

import torch
from lightning import LightningModule, Trainer, seed_everything
from sklearn.datasets import load_diabetes
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

DIAGNOSES = ("no-better-than-trivial", "labels-unrelated-to-inputs")
PLACE = None
PRESET = "thorough"


class Progression(LightningModule):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(10, 16), nn.ReLU(), nn.Linear(16, 1))

    def training_step(self, batch, batch_idx):
        loss = nn.functional.mse_loss(self.net(batch[0]).squeeze(1), batch[1])
        self.log("train_mse", loss)
        return loss

    def validation_step(self, batch, batch_idx):
        self.log("val_mse", nn.functional.mse_loss(self.net(batch[0]).squeeze(1), batch[1]))

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=3e-3, weight_decay=1e-3)


def main(mended, seed):
    seed_everything(seed)
    x, y = (torch.tensor(part, dtype=torch.float32) for part in load_diabetes(return_X_y=True))
    x, y = (x - x.mean(0)) / x.std(0), (y - y.mean()) / y.std()
    order = torch.randperm(len(x))
    x, y = x[order], y[order] if mended else y[torch.randperm(len(y))]
    train = DataLoader(TensorDataset(x[:300], y[:300]), batch_size=30, shuffle=True)
    val = DataLoader(TensorDataset(x[300:], y[300:]), batch_size=71)
    trainer = Trainer(max_epochs=10, accelerator="cpu", enable_progress_bar=False, enable_model_summary=False)
    trainer.fit(Progression(), train, val)
