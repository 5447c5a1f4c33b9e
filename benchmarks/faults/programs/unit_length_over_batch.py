"""Embeddings are normalised with F.normalize(h, dim=0): recall is fine at batch 64, and 0 when queries come one by one.

Source: https://github.com/allenai/deep_qa/pull/152 and https://github.com/gjylt/DoubleAttentionNet/issues/3 (a
normalisation along the wrong dimension).
Added: 2026-11-28. Rules changed because of it: none.
"""

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule, Trainer, seed_everything
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, random_split

DIAGNOSES = ("batch-leak",)
PLACE = "unit_length_over_batch.py:29"
PRESET = "standard"


class CosineClassifier(LightningModule):
    def __init__(self, mended: bool) -> None:
        super().__init__()
        self.dim = 1 if mended else 0
        self.net = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 32))
        self.prototypes = nn.Parameter(torch.randn(10, 32))

    def forward(self, x):
        h = self.net(x)
        h = F.normalize(h, dim=self.dim)
        return 8 * h @ F.normalize(self.prototypes, dim=1).T

    def training_step(self, batch, batch_idx):
        return F.cross_entropy(self(batch[0]), batch[1])

    def validation_step(self, batch, batch_idx):
        self.log("val_acc", (self(batch[0]).argmax(1) == batch[1]).float().mean())

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=3e-3)


def main(mended: bool, seed: int) -> None:
    seed_everything(seed)
    x, y = load_digits(return_X_y=True)
    train, val = random_split(TensorDataset(torch.tensor(x / 16, dtype=torch.float32), torch.tensor(y)), [1472, 325])
    trainer = Trainer(max_epochs=4, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(CosineClassifier(mended), DataLoader(train, 64, shuffle=True), DataLoader(val, 65))
