"""A linear support vector machine: hinge loss with labels -1 and 1, no activation anywhere.

Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.MultiMarginLoss.html
Added: 2026-11-28. Rules changed because of it: none.
"""

import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from sklearn.datasets import load_breast_cancer
from sklearn.preprocessing import scale
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, random_split

DIAGNOSES = ()
PLACE = None
PRESET = "thorough"


class SVM(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.plane = nn.Linear(30, 1)

    def step(self, batch):
        return (1 - batch[1] * self.plane(batch[0]).squeeze(1)).clamp(min=0).mean()

    def training_step(self, batch, batch_idx):
        return self.step(batch)

    def validation_step(self, batch, batch_idx):
        self.log("val_hinge", self.step(batch))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.02, weight_decay=1e-3)


def main(mended: bool, seed: int) -> None:
    seed_everything(seed)
    x, y = load_breast_cancer(return_X_y=True)
    data = TensorDataset(torch.tensor(scale(x), dtype=torch.float32), torch.tensor(2.0 * y - 1, dtype=torch.float32))
    train, val = random_split(data, [450, 119])
    trainer = Trainer(max_epochs=8, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(SVM(), DataLoader(train, 30, shuffle=True), DataLoader(val, 60))
