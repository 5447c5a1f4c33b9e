"""House prices in dollars as targets: the loss starts at 1e11, and after ten epochs all predictions are about 50.

Source: https://stackoverflow.com/questions/52800582 and https://stackoverflow.com/questions/48934338
(unscaled targets).
Added: 2026-11-28. Rules changed because of it: none.
"""

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule, Trainer, seed_everything
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

DIAGNOSES = ("loss-at-init", "input-not-normalized")
PLACE = None
PRESET = "standard"


class Prices(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 1))

    def training_step(self, batch, batch_idx):
        x, price = batch
        loss = F.mse_loss(self.net(x), price)
        self.log("train_mse", loss, prog_bar=True)
        return loss

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-3)


def main(mended: bool, seed: int) -> None:
    seed_everything(seed)
    x = torch.randn(1600, 8)
    price = 300_000 + 80_000 * x[:, :1] + 40_000 * x[:, 1:2] * x[:, 2:3] + 10_000 * torch.randn(1600, 1)
    if mended:
        price = (price - price.mean()) / price.std()
    trainer = Trainer(max_epochs=4, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(Prices(), DataLoader(TensorDataset(x, price), batch_size=50, shuffle=True))
