"""All 32 hidden units of a small regression network have the same weights after training.

Source: https://stackoverflow.com/questions/48027263 and https://github.com/wagonhelm/NaNmnist/issues/2 (constant or
zero initial weights).
Added: 2026-11-28. Rules changed because of it: none.
"""

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule, Trainer, seed_everything
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

DIAGNOSES = ("symmetric-init",)
PLACE = "hidden"
PRESET = "standard"


class Surface(LightningModule):
    def __init__(self, mended: bool) -> None:
        super().__init__()
        self.hidden, self.out = nn.Linear(5, 32), nn.Linear(32, 1)
        for layer in (self.hidden, self.out):
            if not mended:
                nn.init.constant_(layer.weight, 0.1)
            nn.init.zeros_(layer.bias)

    def training_step(self, batch, batch_idx):
        x, y = batch
        loss = F.mse_loss(self.out(torch.tanh(self.hidden(x))), y)
        self.log("mse", loss)
        return loss

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.05)


def main(mended: bool, seed: int) -> None:
    seed_everything(seed)
    x = torch.randn(2000, 5)
    y = (x[:, :1] * x[:, 1:2]).sin() + 0.3 * x[:, 2:3]
    trainer = Trainer(max_epochs=3, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(Surface(mended), DataLoader(TensorDataset(x, y), batch_size=50, shuffle=True))
