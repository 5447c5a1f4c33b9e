"""The schedule-free AdamW, whose train() and eval() are called in the hooks as its README asks.

Source: https://github.com/facebookresearch/schedule_free
Added: 2026-11-28. Rules changed because of it: none.
"""

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule, Trainer, seed_everything
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, random_split

DIAGNOSES = ()
PLACE = None
PRESET = "thorough"


class ScheduleFree(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))

    def on_train_epoch_start(self):
        self.optimizers().optimizer.train()

    def on_validation_epoch_start(self):
        self.optimizers().optimizer.eval()

    def on_validation_epoch_end(self):
        self.optimizers().optimizer.train()

    def training_step(self, batch, batch_idx):
        return F.cross_entropy(self.net(batch[0]), batch[1])

    def validation_step(self, batch, batch_idx):
        self.log("val_acc", (self.net(batch[0]).argmax(1) == batch[1]).float().mean())

    def configure_optimizers(self):
        from schedulefree import AdamWScheduleFree

        return AdamWScheduleFree(self.parameters(), lr=5e-3, warmup_steps=10)


def main(mended: bool, seed: int) -> None:
    try:
        import schedulefree  # noqa: F401 - whether it is there is all that is asked
    except ImportError:
        raise SystemExit("skipped: schedulefree is not installed") from None
    seed_everything(seed)
    x, y = load_digits(return_X_y=True)
    train, val = random_split(TensorDataset(torch.tensor(x / 16, dtype=torch.float32), torch.tensor(y)), [1500, 297])
    trainer = Trainer(
        max_epochs=3, num_sanity_val_steps=0, logger=False, enable_checkpointing=False, enable_progress_bar=False
    )
    trainer.fit(ScheduleFree(), DataLoader(train, 32, shuffle=True), DataLoader(val, 100))
