"""SGD at a common rate gives NaN within ten steps; the targets are prices in cents.

Source: https://stackoverflow.com/questions/52800582 (inputs and targets that are not scaled).
Added: 2026-11-28. Rules changed because of it: none.
Missed: `input-not-normalized` is named first, for the targets; the diagnoses are not changed after a run.
"""

import torch
from lightning import LightningModule, Trainer, seed_everything
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

DIAGNOSES = ("exploding-gradient", "diverging-loss", "nonfinite-loss", "nonfinite-activation", "update-ratio-high")
PLACE = None
PRESET = "standard"


class Flat(LightningModule):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(6, 32), nn.ReLU(), nn.Linear(32, 1))

    def training_step(self, batch, batch_idx):
        x, price = batch
        loss = nn.functional.mse_loss(self.net(x), price)
        self.log("mse", loss)
        return loss

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.01)


def main(mended, seed):
    seed_everything(seed)
    x = torch.randn(800, 6)
    price = 25_000_000 + 4_000_000 * (x[:, :1] + x[:, 1:2] * x[:, 2:3]) + 1_000_000 * torch.randn(800, 1)
    if mended:
        price = (price - price.mean()) / price.std()
    trainer = Trainer(max_epochs=3, accelerator="cpu", enable_progress_bar=False, enable_model_summary=False)
    trainer.fit(Flat(), DataLoader(TensorDataset(x, price), batch_size=40, shuffle=True))
