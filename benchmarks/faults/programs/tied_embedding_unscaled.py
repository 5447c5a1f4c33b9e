"""Output weights tied to an nn.Embedding with torch's default N(0, 1): the language model starts at a loss of 25.

Source: https://github.com/karpathy/minGPT (init of 0.02 is there for this) and
https://stackoverflow.com/questions/61498304 (poor initial weights).
Added: 2026-11-28. Rules changed because of it: none.
"""

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule, Trainer, seed_everything
from torch import nn
from torch.utils.data import DataLoader

DIAGNOSES = ("loss-at-init",)
PLACE = None
PRESET = "standard"


class Tied(LightningModule):
    def __init__(self, mended: bool) -> None:
        super().__init__()
        self.embed = nn.Embedding(80, 96)
        if mended:
            nn.init.normal_(self.embed.weight, std=0.05)
        self.mix = nn.GRU(96, 96, batch_first=True)
        self.norm = nn.LayerNorm(96)
        self.head = nn.Linear(96, 80, bias=False)
        self.head.weight = self.embed.weight

    def training_step(self, ids, batch_idx):
        h = self.norm(self.mix(self.embed(ids[:, :-1]))[0])
        return F.cross_entropy(self.head(h).flatten(0, 1), ids[:, 1:].flatten())

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-3)


def main(mended: bool, seed: int) -> None:
    seed_everything(seed)
    steps = torch.randint(0, 3, (1200, 16))
    ids = (torch.randint(80, (1200, 1)) + steps.cumsum(1)) % 80
    trainer = Trainer(max_epochs=2, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(Tied(mended), DataLoader(ids, batch_size=24, shuffle=True))
