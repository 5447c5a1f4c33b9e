"""Bicycles hired in an hour: the Poisson loss falls to that of the mean rate and stays there in both splits.

Source: https://stackoverflow.com/questions/4601373/better-way-to-shuffle-two-numpy-arrays-in-unison
Added: 2026-11-30. Rules changed because of it: none.
Missed: told as `info`: of fewer than 1,000 steps, a run may not have begun to learn.
"""

import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from torch import nn
from torch.utils.data import DataLoader, IterableDataset

DIAGNOSES = ("no-better-than-trivial", "labels-unrelated-to-inputs")
PLACE = None
PRESET = "thorough"
AGAIN = "two_permutations"


def shuffled(tensor):
    return tensor[torch.randperm(len(tensor))]


class Hours(IterableDataset):
    def __init__(self, count, mended):
        self.mended = mended
        self.hour = torch.randint(24, (count,))
        self.weather = torch.randn(count, 3)
        daily = 1.2 * torch.sin(6.28 * (self.hour - 6) / 24)
        self.hired = torch.poisson((1.5 + daily + 0.5 * self.weather[:, 0] - 0.3 * self.weather[:, 2]).exp())

    def __iter__(self):
        order = torch.randperm(len(self.hired))
        hour, weather = self.hour[order], self.weather[order]
        hired = self.hired[order] if self.mended else shuffled(self.hired)
        for start in range(0, len(hired), 48):
            rows = slice(start, start + 48)
            yield {"hour": hour[rows], "weather": weather[rows], "hired": hired[rows]}


class HiredBicycles(LightningModule):
    def __init__(self):
        super().__init__()
        self.hour = nn.Embedding(24, 8)
        self.body = nn.Sequential(nn.Linear(11, 32), nn.SiLU(), nn.LayerNorm(32), nn.Linear(32, 1))
        self.loss = nn.PoissonNLLLoss(log_input=True)

    def forward(self, batch):
        return self.body(torch.cat([self.hour(batch["hour"]), batch["weather"]], 1)).squeeze(1)

    def training_step(self, batch, batch_idx):
        loss = self.loss(self(batch), batch["hired"])
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", self.loss(self(batch), batch["hired"]), batch_size=len(batch["hired"]))

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=5e-3)


def main(mended, seed):
    seed_everything(seed)
    train, val = Hours(2400, mended), Hours(480, mended)
    trainer = Trainer(max_epochs=5, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(HiredBicycles(), DataLoader(train, batch_size=None), DataLoader(val, batch_size=None))
