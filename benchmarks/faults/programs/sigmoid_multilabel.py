"""Multi-label tagging: no tag ever gets a probability below 0.5, and the loss stops at 0.7 of its first value.

Source: https://github.com/yudi-mars/daisyRec/pull/15 (sigmoid before BCEWithLogitsLoss: the loss does not converge).
Added: 2026-11-28. Rules changed because of it: none.
"""

from dataclasses import dataclass

import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from torch import nn
from torch.utils.data import DataLoader, Dataset

DIAGNOSES = ("double-sigmoid",)
PLACE = "sigmoid_multilabel.py:53"
PRESET = "standard"


@dataclass
class Batch:
    features: torch.Tensor
    tags: torch.Tensor


class Tagged(Dataset):
    def __init__(self, size: int) -> None:
        self.x = torch.randn(size, 40)
        self.tags = (self.x @ torch.randn(40, 8) > 6).float()

    def __len__(self):
        return len(self.x)

    def __getitem__(self, i):
        return self.x[i], self.tags[i]


def collate(samples):
    features, tags = zip(*samples, strict=True)
    return Batch(torch.stack(features), torch.stack(tags))


class Tagger(LightningModule):
    def __init__(self, mended: bool) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(40, 96), nn.LayerNorm(96), nn.ReLU())
        self.head = nn.Sequential(nn.Linear(96, 8), nn.Identity() if mended else nn.Sigmoid())
        self.loss = nn.BCEWithLogitsLoss()

    def forward(self, features):
        return self.head(self.body(features))

    def training_step(self, batch, batch_idx):
        return self.loss(self(batch.features), batch.tags)

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-3)


def main(mended: bool, seed: int) -> None:
    seed_everything(seed)
    loader = DataLoader(Tagged(3000), batch_size=50, shuffle=True, collate_fn=collate)
    trainer = Trainer(max_epochs=2, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(Tagger(mended), loader)
