"""A recurrent autoencoder of token sequences with a bottleneck; the decoder sees the code alone, never the tokens.

Source: https://arxiv.org/abs/1502.04681
Added: 2026-11-28. Rules changed because of it: none.
"""

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule, Trainer, seed_everything
from torch import nn
from torch.utils.data import DataLoader

DIAGNOSES = ()
PLACE = None
PRESET = "thorough"


class Autoencoder(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.encoder = nn.Embedding(20, 24), nn.GRU(24, 48, batch_first=True)
        self.decoder, self.out = nn.GRU(48, 48, batch_first=True), nn.Linear(48, 20)

    def step(self, ids):
        _, code = self.encoder(self.embed(ids))
        h, _ = self.decoder(code[0][:, None].expand(-1, ids.shape[1], -1))
        return F.cross_entropy(self.out(h).flatten(0, 1), ids.flatten())

    def training_step(self, ids, batch_idx):
        return self.step(ids)

    def validation_step(self, ids, batch_idx):
        self.log("val_loss", self.step(ids))

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=5e-3)


def sequences(size: int) -> torch.Tensor:
    return (torch.randint(20, (size, 1)) + torch.randint(1, 7, (size, 1)) * torch.arange(8)) % 20


def main(mended: bool, seed: int) -> None:
    seed_everything(seed)
    noise = torch.randint(20, (2200, 8))
    ids = torch.where(torch.rand(2200, 8) < 0.2, noise, sequences(2200))
    trainer = Trainer(max_epochs=3, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(Autoencoder(), DataLoader(ids[:2000], 32, shuffle=True), DataLoader(ids[2000:], 50))
