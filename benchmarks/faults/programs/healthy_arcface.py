"""Metric learning with ArcFace and a multi-similarity miner of pytorch-metric-learning.

Source: https://kevinmusgrave.github.io/pytorch-metric-learning/
Added: 2026-11-28. Rules changed because of it: none.
"""

import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

DIAGNOSES = ()
PLACE = None
PRESET = "thorough"


class Metric(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        from pytorch_metric_learning import losses, miners

        self.net = nn.Sequential(nn.Linear(64, 96), nn.BatchNorm1d(96), nn.ReLU(), nn.Linear(96, 24))
        self.arcface = losses.ArcFaceLoss(num_classes=10, embedding_size=24, margin=20, scale=16)
        self.miner, self.pairs = miners.MultiSimilarityMiner(), losses.MultiSimilarityLoss()

    def training_step(self, batch, batch_idx):
        embedding = self.net(batch[0])
        hard = self.miner(embedding, batch[1])
        return self.arcface(embedding, batch[1]) + self.pairs(embedding, batch[1], hard)

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=2e-3)


def main(mended: bool, seed: int) -> None:
    try:
        import pytorch_metric_learning  # noqa: F401 - whether it is there is all that is asked
    except ImportError:
        raise SystemExit("skipped: pytorch-metric-learning is not installed") from None
    seed_everything(seed)
    x, y = load_digits(return_X_y=True)
    data = TensorDataset(torch.tensor(x / 8 - 1, dtype=torch.float32), torch.tensor(y))
    trainer = Trainer(max_epochs=4, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(Metric(), DataLoader(data, 64, shuffle=True, drop_last=True))
