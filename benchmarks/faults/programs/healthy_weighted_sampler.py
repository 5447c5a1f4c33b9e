"""Rare defects, drawn as often as good parts by a weighted sampler, so that training batches repeat samples.

Source: https://docs.pytorch.org/docs/stable/data.html#torch.utils.data.WeightedRandomSampler
Added: 2026-11-28. Rules changed because of it: none.
"""

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule, Trainer, seed_everything
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, WeightedRandomSampler

DIAGNOSES = ()
PLACE = None
PRESET = "thorough"


class Defects(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(12, 32), nn.ReLU(), nn.Dropout(0.2), nn.Linear(32, 2))

    def training_step(self, batch, batch_idx):
        return F.cross_entropy(self.net(batch[0]), batch[1])

    def validation_step(self, batch, batch_idx):
        score = self.net(batch[0])
        self.log("val_loss", F.cross_entropy(score, batch[1]))
        self.log("val_recall", (score.argmax(1)[batch[1] == 1] == 1).float().mean())

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=2e-3)


def main(mended: bool, seed: int) -> None:
    seed_everything(seed)
    y = (torch.rand(3600) < 0.06).long()
    x = torch.randn(3600, 12) + 1.3 * y[:, None] * torch.randn(12).sign()
    weight = torch.where(y[:3000] == 1, 1 / 0.06, 1 / 0.94)
    sampler = WeightedRandomSampler(weight.tolist(), 3000)
    train, val = TensorDataset(x[:3000], y[:3000]), TensorDataset(x[3000:], y[3000:])
    trainer = Trainer(max_epochs=2, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(Defects(), DataLoader(train, 40, sampler=sampler), DataLoader(val, 300))
