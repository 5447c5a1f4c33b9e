"""The delay of a bus from the segments of its trip with a GRU: the lengths of the trips are handed to forward, which
never uses them, so that the GRU goes on over the padding before its last state is read.

Source: written from a description of the fault alone, by somebody who had not seen the rule.
Added: 2026-12-01. Rules changed because of it: none.
"""

import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_sequence
from torch.utils.data import DataLoader

DIAGNOSES = ("unused-input",)
PLACE = "lengths"
PRESET = "standard"
AGAIN = "unused_padding_mask"


def drive(trips):
    driven = []
    for length in torch.randint(4, 40, (trips,)).tolist():
        segments = torch.randn(length, 3)
        delay = torch.zeros(())
        for distance, traffic, boarding in segments:
            delay = 0.8 * delay + 0.5 * traffic + 0.3 * boarding + 0.2 * distance * traffic
        driven.append((segments, delay + 0.05 * torch.randn(())))
    return driven


def collate(trips):
    segments, delays = zip(*trips, strict=True)
    return {
        "segments": pad_sequence(segments, batch_first=True),
        "lengths": torch.tensor([len(trip) for trip in segments]),
        "delay": torch.stack(delays),
    }


class Delay(LightningModule):
    def __init__(self, mended):
        super().__init__()
        self.mended = mended
        self.embed = nn.Linear(3, 24)
        self.gru = nn.GRU(24, 32, batch_first=True)
        self.head = nn.Linear(32, 1)

    def forward(self, segments, lengths):
        steps = torch.tanh(self.embed(segments))
        if self.mended:
            steps = pack_padded_sequence(steps, lengths.cpu(), batch_first=True, enforce_sorted=False)
        _, last = self.gru(steps)
        return self.head(last[-1]).squeeze(1)

    def training_step(self, batch, batch_idx):
        loss = nn.functional.mse_loss(self(batch["segments"], batch["lengths"]), batch["delay"])
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", nn.functional.mse_loss(self(batch["segments"], batch["lengths"]), batch["delay"]))

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=3e-3)


def main(mended, seed):
    seed_everything(seed)
    train, val = drive(1200), drive(300)
    trainer = Trainer(max_epochs=8, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(
        Delay(mended),
        DataLoader(train, batch_size=32, shuffle=True, collate_fn=collate),
        DataLoader(val, batch_size=50, collate_fn=collate),
    )
