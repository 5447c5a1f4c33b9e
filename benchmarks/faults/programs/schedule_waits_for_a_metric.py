"""``lr_scheduler_step`` was written for ``ReduceLROnPlateau``, then another schedule was put in: the rate stands still.

Source: https://github.com/Lightning-AI/pytorch-lightning/issues/8057 (a scheduler of one's own is not called).
Added: 2026-11-30. Rules changed because of it: none.
"""

import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

DIAGNOSES = ("scheduler-never-stepped", "learning-rate-schedule")
PLACE = "lr_scheduler_step"
PRESET = "standard"
AGAIN = "overridden_scheduler_step"


class InverseSquareRoot:
    """The rate of "Attention is all you need", without torch's base class."""

    def __init__(self, optimizer, warmup):
        self.optimizer, self.warmup, self.steps = optimizer, warmup, 1
        self.base = optimizer.param_groups[0]["lr"]
        self.set_lr()

    def set_lr(self):
        factor = min(self.steps / self.warmup, (self.warmup / self.steps) ** 0.5)
        self.optimizer.param_groups[0]["lr"] = self.base * factor

    def step(self, metric=None):
        self.steps += 1
        self.set_lr()

    def state_dict(self):
        return {"steps": self.steps}

    def load_state_dict(self, state):
        self.steps = state["steps"]


class RowTransformer(LightningModule):
    def __init__(self, mended):
        super().__init__()
        self.mended = mended
        self.embed = nn.Linear(8, 32)
        self.layer = nn.TransformerEncoderLayer(32, 4, 64, dropout=0.1, batch_first=True)
        self.head = nn.Linear(32 * 8, 10)

    def training_step(self, batch, batch_idx):
        rows, digit = batch
        loss = nn.functional.cross_entropy(self.head(self.layer(self.embed(rows)).flatten(1)), digit)
        self.log("loss", loss)
        return loss

    def lr_scheduler_step(self, scheduler, metric):
        if metric is not None:
            scheduler.step(metric)
        elif self.mended:
            scheduler.step()

    def configure_optimizers(self):
        optimizer = torch.optim.Adam(self.parameters(), lr=3e-3, betas=(0.9, 0.98))
        schedule = InverseSquareRoot(optimizer, warmup=50)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def main(mended, seed):
    seed_everything(seed)
    digits = load_digits()
    rows = torch.tensor(digits.images / 8 - 1, dtype=torch.float32)
    trainer = Trainer(max_epochs=4, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    data = TensorDataset(rows, torch.tensor(digits.target))
    trainer.fit(RowTransformer(mended), DataLoader(data, batch_size=60, shuffle=True))
