"""Sequence to sequence: the collate function makes decoder_input_ids (a start token, then the target), as in T5, BART.

Source: https://github.com/huggingface/transformers/pull/46898 (shift_tokens_right)
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


START = 30


def collate(samples):
    source, labels = (torch.stack(part) for part in zip(*samples, strict=True))
    start = torch.full((len(labels), 1), START)
    return {"input_ids": source, "decoder_input_ids": torch.cat([start, labels[:, :-1]], dim=1), "labels": labels}


class T5Like(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(31, 32)
        self.encoder = nn.GRU(32, 32, batch_first=True, bidirectional=True)
        self.decoder, self.bridge = nn.GRU(32, 64, batch_first=True), nn.Linear(64, 64)
        self.out = nn.Linear(64, 30)

    def step(self, batch):
        _, memory = self.encoder(self.embed(batch["input_ids"]))
        memory = torch.tanh(self.bridge(memory.transpose(0, 1).flatten(1)))[None]
        h, _ = self.decoder(self.embed(batch["decoder_input_ids"]), memory)
        return F.cross_entropy(self.out(h).flatten(0, 1), batch["labels"].flatten())

    def training_step(self, batch, batch_idx):
        return self.step(batch)

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", self.step(batch))

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=4e-3)


def pairs(size: int):
    source = torch.randint(30, (size, 5))
    return list(zip(source, (source.cumsum(1)) % 30, strict=True))


def main(mended: bool, seed: int) -> None:
    seed_everything(seed)
    trainer = Trainer(max_epochs=3, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    train = DataLoader(pairs(2000), 32, shuffle=True, collate_fn=collate)
    trainer.fit(T5Like(), train, DataLoader(pairs(200), 50, collate_fn=collate))
