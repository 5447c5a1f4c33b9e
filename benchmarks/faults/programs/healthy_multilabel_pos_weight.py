"""Multi-label tagging with rare tags, pos_weight and an F1 score.

Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.BCEWithLogitsLoss.html
Added: 2026-11-28. Rules changed because of it: none.
"""

import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from torchmetrics.classification import MultilabelF1Score

DIAGNOSES = ()
PLACE = None
PRESET = "thorough"


class Tags(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(30, 64), nn.ReLU(), nn.Dropout(0.2), nn.Linear(64, 6))
        self.loss = nn.BCEWithLogitsLoss(pos_weight=torch.tensor([1.0, 2.0, 3.0, 4.0, 6.0, 8.0]))
        self.f1 = MultilabelF1Score(num_labels=6)

    def training_step(self, batch, batch_idx):
        return self.loss(self.net(batch[0]), batch[1])

    def validation_step(self, batch, batch_idx):
        score = self.net(batch[0])
        self.f1(score.sigmoid(), batch[1].int())
        self.log("val_f1", self.f1)
        self.log("val_loss", self.loss(score, batch[1]))

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=2e-3)


def main(mended: bool, seed: int) -> None:
    seed_everything(seed)
    x = torch.randn(2400, 30)
    y = ((x @ torch.randn(30, 6)) / 30**0.5 > torch.linspace(0, 1.3, 6)).float()
    train, val = TensorDataset(x[:2000], y[:2000]), TensorDataset(x[2000:], y[2000:])
    trainer = Trainer(max_epochs=4, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(Tags(), DataLoader(train, 32, shuffle=True), DataLoader(val, 100))
