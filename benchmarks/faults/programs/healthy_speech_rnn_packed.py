"""Sequences of different length, packed for a GRU; the longest comes first, padding is 0.

Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.utils.rnn.pack_padded_sequence.html
Added: 2026-11-28. Rules changed because of it: none.
"""

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule, Trainer, seed_everything
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_sequence
from torch.utils.data import DataLoader

DIAGNOSES = ()
PLACE = None
PRESET = "thorough"


def utterances(size: int):
    result = []
    for _ in range(size):
        length, word = int(torch.randint(8, 20, ())), int(torch.randint(4, ()))
        wave = torch.sin(torch.arange(length)[:, None] * (0.2 + 0.25 * word) + torch.rand(1) * 6.28)
        result.append((wave * torch.tensor([1.0, 0.5, -0.5]) + 0.2 * torch.randn(length, 3), word))
    return result


def collate(samples):
    samples = sorted(samples, key=lambda s: -len(s[0]))
    frames, words = zip(*samples, strict=True)
    lengths = torch.tensor([len(f) for f in frames])
    return {"frames": pad_sequence(frames, batch_first=True), "lengths": lengths, "word": torch.tensor(words)}


class Commands(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.gru, self.out = nn.GRU(3, 32, batch_first=True), nn.Linear(32, 4)

    def step(self, batch):
        packed = pack_padded_sequence(batch["frames"], batch["lengths"].cpu(), batch_first=True)
        return F.cross_entropy(self.out(self.gru(packed)[1][-1]), batch["word"])

    def training_step(self, batch, batch_idx):
        return self.step(batch)

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", self.step(batch), batch_size=len(batch["word"]))

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=5e-3)


def main(mended: bool, seed: int) -> None:
    seed_everything(seed)
    trainer = Trainer(max_epochs=3, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    train = DataLoader(utterances(1500), 30, shuffle=True, collate_fn=collate)
    trainer.fit(Commands(), train, DataLoader(utterances(200), 50, collate_fn=collate))
