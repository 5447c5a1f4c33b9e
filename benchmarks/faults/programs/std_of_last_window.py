"""A forecaster that normalises each group by its spread breaks now and then, never on the same step.

Source: https://github.com/pytorch/pytorch/issues/29372 (std of one element is NaN).
Added: 2026-11-28. Rules changed because of it: none.
"""

import torch
from lightning import LightningModule, Trainer, seed_everything
from sklearn.datasets import load_wine
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

DIAGNOSES = ("nonfinite-loss", "nonfinite-activation")
PLACE = "std"
PRESET = "standard"


class GroupScaled(LightningModule):
    """Scores wines relative to those of their own producer within the batch."""

    def __init__(self, mended):
        super().__init__()
        self.mended = mended
        self.score = nn.Sequential(nn.Linear(12, 24), nn.ELU(), nn.Linear(24, 1))

    def training_step(self, batch, batch_idx):
        features, producer, alcohol = batch
        raw = self.score(features).squeeze(1)
        parts = []
        for group in producer.unique():
            member = raw[producer == group]
            spread = member.std(correction=0) if self.mended else member.std()
            parts.append((((member - member.mean()) / (spread + 1e-3)) - alcohol[producer == group]).square())
        loss = torch.cat(parts).mean()
        self.log("train/loss", loss)
        return loss

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=1e-3)


def main(mended, seed):
    seed_everything(seed)
    table = torch.tensor(load_wine().data, dtype=torch.float32)
    table = (table - table.mean(0)) / table.std(0)
    producer = torch.randint(0, 5, (len(table),))
    producer[70] = 5  # a producer with one wine
    data = TensorDataset(table[:, 1:], producer, table[:, 0])
    trainer = Trainer(max_epochs=4, accelerator="cpu", enable_progress_bar=False, enable_model_summary=False)
    trainer.fit(GroupScaled(mended), DataLoader(data, batch_size=32, shuffle=True))
