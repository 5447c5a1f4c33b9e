"""Breast cancer: accuracy is exactly the share of the positive class and never moves; the loss is 37 and constant.

Source: https://stackoverflow.com/questions/31880720 (softmax over one output unit), see also
https://github.com/vllm-project/vllm/pull/18313.
Added: 2026-11-28. Rules changed because of it: softmax-over-one (its place; unused-input follows it).
"""

import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from sklearn.datasets import load_breast_cancer
from sklearn.preprocessing import StandardScaler
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

DIAGNOSES = ("softmax-over-one",)
PLACE = "softmax_of_one_output.py:29"
PRESET = "standard"


class Diagnosis(LightningModule):
    def __init__(self, mended: bool) -> None:
        super().__init__()
        last = nn.Sigmoid() if mended else nn.Softmax(dim=1)
        self.net = nn.Sequential(nn.Linear(30, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 1), last)
        self.bce = nn.BCELoss()

    def training_step(self, batch, batch_idx):
        x, y = batch
        p = self.net(x)
        self.log("acc", ((p > 0.5) == (y > 0.5)).float().mean(), prog_bar=True)
        return self.bce(p, y)

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-3)


def main(mended: bool, seed: int) -> None:
    seed_everything(seed)
    x, y = load_breast_cancer(return_X_y=True)
    x = StandardScaler().fit_transform(x)
    data = TensorDataset(torch.tensor(x, dtype=torch.float32), torch.tensor(y, dtype=torch.float32)[:, None])
    trainer = Trainer(max_epochs=6, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(Diagnosis(mended), DataLoader(data, batch_size=32, shuffle=True))
