"""Triplet loss with anchors, positives and negatives chosen in the dataset.

Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.TripletMarginLoss.html
Added: 2026-11-28. Rules changed because of it: none.
"""

import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, Dataset

DIAGNOSES = ()
PLACE = None
PRESET = "thorough"


class Triplets(Dataset):
    def __init__(self) -> None:
        digits = load_digits()
        self.x, self.y = torch.tensor(digits.data / 16, dtype=torch.float32), torch.tensor(digits.target)
        self.of_class = [torch.nonzero(self.y == c).flatten() for c in range(10)]

    def __len__(self):
        return len(self.x)

    def __getitem__(self, i):
        own = int(self.y[i])
        other = (own + int(torch.randint(1, 10, ()))) % 10
        positive, negative = (c[torch.randint(len(c), ())] for c in (self.of_class[own], self.of_class[other]))
        return {"anchor": self.x[i], "positive": self.x[positive], "negative": self.x[negative]}


class Embedder(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 16))
        self.loss = nn.TripletMarginLoss(margin=0.5)

    def training_step(self, batch, batch_idx):
        return self.loss(*(self.net(batch[k]) for k in ("anchor", "positive", "negative")))

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-3)


def main(mended: bool, seed: int) -> None:
    seed_everything(seed)
    trainer = Trainer(max_epochs=3, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(Embedder(), DataLoader(Triplets(), 48, shuffle=True))
