"""A next-note model for melodies: 99 % of the next notes right in training, but it cannot compose.

Source: https://github.com/huggingface/transformers/issues/48745 (each position sees the tokens after it).
Added: 2026-11-28. Rules changed because of it: none.
"""

import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from torch import nn
from torch.utils.data import DataLoader

DIAGNOSES = ("future-leak",)
PLACE = None
PRESET = "standard"


class Melody(LightningModule):
    def __init__(self, mended: bool) -> None:
        super().__init__()
        self.note = nn.Embedding(24, 20)
        self.lstm = nn.LSTM(20, 32, batch_first=True, bidirectional=not mended)
        self.next = nn.Linear(32 if mended else 64, 24)
        self.loss = nn.CrossEntropyLoss()

    def forward(self, notes):
        return self.next(self.lstm(self.note(notes))[0])

    def training_step(self, notes, batch_idx):
        logits = self(notes[:, :-1])
        return self.loss(logits.transpose(1, 2), notes[:, 1:])

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=4e-3)


def main(mended: bool, seed: int) -> None:
    seed_everything(seed)
    steps = torch.tensor([-2, -1, 0, 1, 2])[torch.randint(5, (1500, 20))]
    notes = (torch.randint(24, (1500, 1)) + steps.cumsum(1)) % 24
    trainer = Trainer(max_epochs=2, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(Melody(mended), DataLoader(notes, batch_size=30, shuffle=True))
