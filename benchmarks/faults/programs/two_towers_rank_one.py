"""Ratings from a tower for readers and one for books: the loss stops early, whatever the width of the towers.

Source: https://stackoverflow.com/questions/20027598/why-should-weights-of-neural-networks-be-initialized-to-random-numbers
Added: 2026-11-30. Rules changed because of it: none.
"""

import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

DIAGNOSES = ("symmetric-init",)
PLACE = None
PRESET = "standard"
AGAIN = "zero_init_convnet"


def init_weights(module):
    if isinstance(module, nn.Linear):
        nn.init.constant_(module.weight, 0.1)
        nn.init.zeros_(module.bias)


def tower(features):
    return nn.Sequential(nn.Linear(features, 32), nn.GELU(), nn.Linear(32, 32), nn.GELU(), nn.Linear(32, 12))


class TwoTowers(LightningModule):
    def __init__(self, mended):
        super().__init__()
        self.reader = tower(6)
        self.book = tower(9)
        if not mended:
            self.apply(init_weights)

    def forward(self, reader, book):
        return (self.reader(reader) * self.book(book)).sum(1)

    def training_step(self, batch, batch_idx):
        reader, book, rating = batch
        loss = nn.functional.mse_loss(self(reader, book), rating)
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch, batch_idx):
        reader, book, rating = batch
        self.log("val_loss", nn.functional.mse_loss(self(reader, book), rating))

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=3e-3)


def main(mended, seed):
    seed_everything(seed)
    readers, books = torch.randn(2400, 6), torch.randn(2400, 9)
    tastes, topics = torch.randn(6, 4) / 6**0.5, torch.randn(9, 4) / 3
    ratings = 0.5 * ((readers @ tastes) * (books @ topics)).sum(1) + 0.1 * torch.randn(2400)
    data = TensorDataset(readers, books, ratings)
    train, val = torch.utils.data.random_split(data, [2000, 400])
    trainer = Trainer(max_epochs=6, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(TwoTowers(mended), DataLoader(train, batch_size=40, shuffle=True), DataLoader(val, batch_size=40))
