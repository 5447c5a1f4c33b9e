"""Disease progression, standardised targets: half of the predictions are exactly 0.

Source: https://github.com/ProteomicsML/ProteomicsML/pull/203 (ReLU after the final regression layer).
Added: 2026-11-28. Rules changed because of it: unused-input (dead outputs are another's).
"""

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule, Trainer, seed_everything
from sklearn.datasets import load_diabetes
from sklearn.preprocessing import scale
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

DIAGNOSES = ("output-range",)
PLACE = "relu_output_diabetes.py:32"
PRESET = "standard"


class Regressor(LightningModule):
    def __init__(self, mended: bool) -> None:
        super().__init__()
        self.mended = mended
        self.layers = nn.ModuleList([nn.Linear(10, 32), nn.Linear(32, 32), nn.Linear(32, 1)])

    def forward(self, x):
        if self.mended:
            for layer in self.layers[:-1]:
                x = torch.relu(layer(x))
            return self.layers[-1](x)
        for layer in self.layers:
            x = F.relu(layer(x))
        return x

    def training_step(self, batch, batch_idx):
        x, y = batch
        return F.mse_loss(self(x), y)

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=3e-3)


def main(mended: bool, seed: int) -> None:
    seed_everything(seed)
    x, y = load_diabetes(return_X_y=True)
    x, y = torch.tensor(scale(x), dtype=torch.float32), torch.tensor(scale(y), dtype=torch.float32)[:, None]
    trainer = Trainer(max_epochs=8, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(Regressor(mended), DataLoader(TensorDataset(x, y), batch_size=32, shuffle=True))
