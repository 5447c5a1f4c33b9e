"""A network that should learn x squared on -10..10: the mean squared error is 2,311 and does not move.

Source: https://stackoverflow.com/questions/48221692 (sigmoid as the output of a regression).
Added: 2026-11-28. Rules changed because of it: none.
"""

import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

DIAGNOSES = ("output-range",)
PLACE = "sigmoid_output_squares.py:26"
PRESET = "standard"


class Squares(LightningModule):
    def __init__(self, mended: bool) -> None:
        super().__init__()
        hidden = nn.Sigmoid() if not mended else nn.Tanh()
        self.net = nn.Sequential(nn.Linear(1, 50), hidden, nn.Linear(50, 20), nn.ReLU())
        self.net.append(nn.Sequential(nn.Linear(20, 1), nn.Sigmoid()) if not mended else nn.Linear(20, 1))
        self.loss = nn.MSELoss()

    def forward(self, x):
        return self.net(x)

    def training_step(self, batch, batch_idx):
        x, y = batch
        return self.loss(self(x), y)

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-2)


def main(mended: bool, seed: int) -> None:
    seed_everything(seed)
    x = torch.linspace(-10, 10, 800)[:, None]
    y = x**2
    if mended:
        x, y = x / 10, (y - y.mean()) / y.std()
    trainer = Trainer(max_epochs=8, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(Squares(mended), DataLoader(TensorDataset(x, y), batch_size=40, shuffle=True))
