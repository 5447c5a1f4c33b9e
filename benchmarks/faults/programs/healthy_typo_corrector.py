"""A streaming corrector of typing errors: the target of a character is, most times, that character itself.

Source: https://arxiv.org/abs/1609.04938 (sequence labelling of characters)
Added: 2026-11-28. Rules changed because of it: none.
"""

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule, Trainer, seed_everything
from torch import nn
from torch.utils.data import DataLoader, Dataset

DIAGNOSES = ()
PLACE = None
PRESET = "thorough"


class Typing(Dataset):
    """Keys drift to their neighbour in a fifth of the cases; the true text goes up or down by one."""

    def __init__(self, size: int) -> None:
        steps = torch.tensor([-1, 1])[torch.randint(2, (size, 20))]
        self.clean = (torch.randint(26, (size, 1)) + steps.cumsum(1)) % 26
        wrong = torch.rand(size, 20) < 0.2
        self.typed = torch.where(wrong, torch.randint(26, (size, 20)), self.clean)

    def __len__(self):
        return len(self.clean)

    def __getitem__(self, i):
        return self.typed[i], self.clean[i]


class Corrector(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.gru, self.out = nn.Embedding(26, 24), nn.GRU(24, 48, batch_first=True), nn.Linear(48, 26)

    def step(self, batch):
        typed, clean = batch
        return F.cross_entropy(self.out(self.gru(self.embed(typed))[0]).transpose(1, 2), clean)

    def training_step(self, batch, batch_idx):
        return self.step(batch)

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", self.step(batch))

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=5e-3)


def main(mended: bool, seed: int) -> None:
    seed_everything(seed)
    trainer = Trainer(max_epochs=3, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(Corrector(), DataLoader(Typing(1500), 30, shuffle=True), DataLoader(Typing(200), 50))
