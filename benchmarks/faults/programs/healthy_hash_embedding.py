"""Click prediction with hashed categories in an EmbeddingBag of 5,000 rows, few of which are used.

Source: https://arxiv.org/abs/0902.2206 (feature hashing)
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


class Clicks(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.bag = nn.EmbeddingBag(5000, 12, mode="sum", sparse=True)
        self.net = nn.Sequential(nn.Linear(12, 24), nn.ReLU(), nn.Linear(24, 1), nn.Flatten(0))
        self.auroc = BinaryAUROC()
        self.automatic_optimization = False

    def training_step(self, batch, batch_idx):
        sparse, dense = self.optimizers()
        loss = F.binary_cross_entropy_with_logits(self.net(self.bag(batch[0])), batch[1])
        for optimizer in (sparse, dense):
            optimizer.zero_grad()
        self.manual_backward(loss)
        for optimizer in (sparse, dense):
            optimizer.step()
        self.log("loss", loss)

    def validation_step(self, batch, batch_idx):
        self.auroc.update(self.net(self.bag(batch[0])), batch[1].long())
        self.log("val_auroc", self.auroc)

    def configure_optimizers(self):
        return [
            torch.optim.SparseAdam(self.bag.parameters(), lr=1e-2),
            torch.optim.Adam(self.net.parameters(), lr=3e-3),
        ]


def main(mended: bool, seed: int) -> None:
    seed_everything(seed)
    category = torch.randint(40, (4000, 5)) + 40 * torch.arange(5)
    hashed = (category * 2654435761) % 5000
    clicked = (torch.randn(200)[category].sum(1) + 0.5 * torch.randn(4000) > 0).float()
    train, val = TensorDataset(hashed[:3500], clicked[:3500]), TensorDataset(hashed[3500:], clicked[3500:])
    trainer = Trainer(max_epochs=3, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(Clicks(), DataLoader(train, 50, shuffle=True), DataLoader(val, 250))
