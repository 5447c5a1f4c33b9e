"""The factorisation machine gives another click probability for the same user each time it is asked.

Source: https://github.com/rixwew/pytorch-fm/issues/21 (F.dropout without training=self.training).
Added: 2026-11-28. Rules changed because of it: none.
Missed: who writes `training=True` means it, as Monte Carlo dropout does.
"""

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule, Trainer, seed_everything
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

DIAGNOSES = ("stochastic-eval",)
PLACE = "functional_dropout.py:32"
PRESET = "standard"


class AttentionalFM(LightningModule):
    def __init__(self, mended: bool) -> None:
        super().__init__()
        self.mended = mended
        self.bias, self.embed = nn.Embedding(300, 1), nn.Embedding(300, 12)
        self.attend = nn.Linear(12, 1)
        self.out = nn.Linear(12, 1)
        self.register_buffer("pairs", torch.combinations(torch.arange(6)))

    def forward(self, fields):
        e = self.embed(fields)
        pairs = e[:, self.pairs[:, 0]] * e[:, self.pairs[:, 1]]
        weight = torch.softmax(self.attend(pairs), dim=1)
        pairs = F.dropout(pairs, 0.2, training=self.training if self.mended else True)
        return (self.bias(fields).sum(1) + self.out((weight * pairs).sum(1))).squeeze(1)

    def training_step(self, batch, batch_idx):
        fields, clicked = batch
        return F.binary_cross_entropy_with_logits(self(fields), clicked)

    def validation_step(self, batch, batch_idx):
        fields, clicked = batch
        self.log("val_loss", F.binary_cross_entropy_with_logits(self(fields), clicked))

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=3e-3)


def main(mended: bool, seed: int) -> None:
    seed_everything(seed)
    fields = torch.randint(50, (3000, 6)) + 50 * torch.arange(6)
    clicked = ((torch.randn(300)[fields].sum(1) + torch.randn(3000)) > 0).float()
    train, val = TensorDataset(fields[:2500], clicked[:2500]), TensorDataset(fields[2500:], clicked[2500:])
    trainer = Trainer(max_epochs=2, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(AttentionalFM(mended), DataLoader(train, 50, shuffle=True), DataLoader(val, 100))
