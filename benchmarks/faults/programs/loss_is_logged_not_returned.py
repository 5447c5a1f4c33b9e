"""The loss is logged and never falls; accuracy stays where it was.

Source: https://github.com/graviraja/MLOps-Basics/issues/14 (``training_step`` logs the loss and returns nothing).
Added: 2026-11-28. Rules changed because of it: none.
"""

import torch
import torch.nn.functional as F
from lightning import LightningModule, Trainer, seed_everything
from sklearn.datasets import make_moons
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

DIAGNOSES = ("no-loss",)
PLACE = "training_step"
PRESET = "standard"


class Moons(LightningModule):
    def __init__(self, mended):
        super().__init__()
        self.mended = mended
        self.net = nn.Sequential(nn.Linear(2, 32), nn.Mish(), nn.Linear(32, 2))

    def training_step(self, batch, batch_idx):
        loss = F.cross_entropy(self.net(batch[0]), batch[1])
        self.log("train_loss", loss, prog_bar=True)
        return loss if self.mended else None

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=1e-2)


def main(mended, seed):
    seed_everything(seed)
    x, y = make_moons(600, noise=0.15, random_state=seed)
    data = TensorDataset(torch.tensor(x, dtype=torch.float32), torch.tensor(y))
    trainer = Trainer(max_epochs=4, accelerator="cpu", enable_progress_bar=False, enable_model_summary=False)
    trainer.fit(Moons(mended), DataLoader(data, batch_size=30, shuffle=True))
