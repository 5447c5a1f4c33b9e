"""Twenty samples and a linear model: there is not more in the laboratory.

Source: the usual pilot study, with batches of five
Added: 2026-11-28. Rules changed because of it: none.
"""

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule, Trainer, seed_everything
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

DIAGNOSES = ()
PLACE = None
PRESET = "thorough"


class Calibration(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.line = nn.Linear(2, 1)

    def training_step(self, batch, batch_idx):
        x, y = batch
        return F.mse_loss(self.line(x), y)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.05)


def main(mended: bool, seed: int) -> None:
    seed_everything(seed)
    x = torch.randn(20, 2)
    y = 0.8 * x[:, :1] - 0.3 * x[:, 1:] + 0.05 * torch.randn(20, 1)
    trainer = Trainer(
        max_epochs=30, log_every_n_steps=1, logger=False, enable_checkpointing=False, enable_progress_bar=False
    )
    trainer.fit(Calibration(), DataLoader(TensorDataset(x, y), batch_size=5, shuffle=True))
