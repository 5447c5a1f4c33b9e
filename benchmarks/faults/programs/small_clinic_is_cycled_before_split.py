"""Two clinics are interleaved, the small one in cycles up to the size of the large one, then the rows are split.

Source: https://github.com/MakazhanAlpamys/Soup/issues/680 (a split after interleaved oversampling) and
https://github.com/mljar/mljar-supervised/issues/627.
Added: 2026-11-30. Rules changed because of it: none.
"""

from itertools import cycle, islice

import torch
from lightning.pytorch import LightningDataModule, LightningModule, Trainer, seed_everything
from torch import nn
from torch.utils.data import DataLoader, random_split

DIAGNOSES = ("train-val-overlap",)
PLACE = None
PRESET = "standard"
AGAIN = "oversampled_before_split"


def clinic(size, shift):
    values = torch.randn(size, 10)
    dose = (values[:, 0] * values[:, 1]).tanh() + 0.5 * values[:, 2] + shift + 0.1 * torch.randn(size)
    return [{"values": row, "dose": target} for row, target in zip(values, dose, strict=True)]


def interleave(large, small):
    return [row for pair in zip(large, islice(cycle(small), len(large)), strict=True) for row in pair]


class Clinics(LightningDataModule):
    def __init__(self, mended):
        super().__init__()
        self.mended = mended

    def setup(self, stage):
        large, small = clinic(900, 0.0), clinic(150, 0.5)
        if self.mended:
            self.train, self.val = interleave(large[:700], small[:120]), large[700:] + small[120:]
        else:
            rows = interleave(large, small)
            self.train, self.val = random_split(rows, [0.8, 0.2])

    def train_dataloader(self):
        return DataLoader(self.train, batch_size=40, shuffle=True)

    def val_dataloader(self):
        return DataLoader(self.val, batch_size=100)


class Dose(LightningModule):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(10, 64), nn.GELU(), nn.Linear(64, 64), nn.GELU(), nn.Linear(64, 1))

    def loss(self, batch):
        return nn.functional.l1_loss(self.net(batch["values"]).squeeze(1), batch["dose"])

    def training_step(self, batch, batch_idx):
        return self.loss(batch)

    def validation_step(self, batch, batch_idx):
        self.log("val_mae", self.loss(batch))

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=2e-3)


def main(mended, seed):
    seed_everything(seed)
    trainer = Trainer(max_epochs=4, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(Dose(), datamodule=Clinics(mended))
