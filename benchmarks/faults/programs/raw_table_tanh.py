"""The breast cancer table as it comes, into tanh units: 63 %, the share of the larger class.

Source: https://stackoverflow.com/questions/39525358 and https://stackoverflow.com/questions/46642627 (features that are
not standardised).
Added: 2026-11-28. Rules changed because of it: none.
"""

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule, Trainer, seed_everything
from sklearn.datasets import load_breast_cancer
from sklearn.preprocessing import scale
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, random_split

DIAGNOSES = ("input-not-normalized",)
PLACE = None
PRESET = "standard"


class TanhNet(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(30, 32), nn.Tanh(), nn.Linear(32, 16), nn.Tanh(), nn.Linear(16, 2))

    def training_step(self, batch, batch_idx):
        return F.cross_entropy(self.net(batch[0]), batch[1])

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", F.cross_entropy(self.net(batch[0]), batch[1]))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.01)


def main(mended: bool, seed: int) -> None:
    seed_everything(seed)
    x, y = load_breast_cancer(return_X_y=True)
    x = torch.tensor(scale(x) if mended else x, dtype=torch.float32)
    train, val = random_split(TensorDataset(x, torch.tensor(y)), [449, 120])
    trainer = Trainer(max_epochs=6, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(TanhNet(), DataLoader(train, 32, shuffle=True), DataLoader(val, 60))
