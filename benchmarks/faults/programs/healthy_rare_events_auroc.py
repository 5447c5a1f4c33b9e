"""1.5 % positives, a plain loss and AUROC as the measure, as in medicine.

Source: https://lightning.ai/docs/torchmetrics/stable/classification/auroc.html
Added: 2026-11-28. Rules changed because of it: none.
"""

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule, Trainer, seed_everything
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from torchmetrics.classification import BinaryAUROC

DIAGNOSES = ()
PLACE = None
PRESET = "thorough"


class Risk(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(14, 32), nn.ReLU(), nn.Linear(32, 1), nn.Flatten(0))
        nn.init.constant_(self.net[2].bias, -4.2)  # the log-odds of 1.5 %
        self.auroc = BinaryAUROC()

    def training_step(self, batch, batch_idx):
        return F.binary_cross_entropy_with_logits(self.net(batch[0]), batch[1])

    def validation_step(self, batch, batch_idx):
        self.auroc.update(self.net(batch[0]), batch[1].long())
        self.log("val_auroc", self.auroc)

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=3e-3)


def main(mended: bool, seed: int) -> None:
    seed_everything(seed)
    y = (torch.rand(7000) < 0.015).float()
    x = torch.randn(7000, 14) + 0.9 * y[:, None] * torch.randn(14).sign()
    train, val = TensorDataset(x[:5000], y[:5000]), TensorDataset(x[5000:], y[5000:])
    trainer = Trainer(max_epochs=2, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(Risk(), DataLoader(train, 64, shuffle=True), DataLoader(val, 500))
