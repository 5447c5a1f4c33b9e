"""Sentences sorted into batches of like length, batches shuffled: length and topic have nothing to do with each other.

Source: https://docs.pytorch.org/text (bucket iterators)
Added: 2026-11-28. Rules changed because of it: none.
"""

import random

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule, Trainer, seed_everything
from torch import nn
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader

DIAGNOSES = ()
PLACE = None
PRESET = "thorough"


class Buckets:
    """Batch sampler: neighbours in length stand together, the order of the batches is random."""

    def __init__(self, lengths: list[int], size: int) -> None:
        order = sorted(range(len(lengths)), key=lengths.__getitem__)
        self.batches = [order[i : i + size] for i in range(0, len(order), size)]

    def __len__(self):
        return len(self.batches)

    def __iter__(self):
        return iter(random.sample(self.batches, len(self.batches)))


def sentences(size: int):
    result = []
    for _ in range(size):
        topic, length = int(torch.randint(3, ())), int(torch.randint(5, 30, ()))
        own = torch.randint(1 + 20 * topic, 21 + 20 * topic, (length,))
        result.append((torch.where(torch.rand(length) < 0.3, own, torch.randint(1, 61, (length,))), topic))
    return result


def collate(samples):
    tokens, topic = zip(*samples, strict=True)
    return pad_sequence(tokens, batch_first=True), torch.tensor(topic)


class Topics(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(61, 24, padding_idx=0)
        self.out = nn.Linear(24, 3)

    def forward(self, tokens):
        known = (tokens > 0).sum(1, keepdim=True)
        return self.out((F.relu(self.embed(tokens))).sum(1) / known)

    def training_step(self, batch, batch_idx):
        return F.cross_entropy(self(batch[0]), batch[1])

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", F.cross_entropy(self(batch[0]), batch[1]))

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-2)


def main(mended: bool, seed: int) -> None:
    seed_everything(seed)
    train = sentences(1800)
    loader = DataLoader(train, batch_sampler=Buckets([len(t) for t, _ in train], 30), collate_fn=collate)
    trainer = Trainer(max_epochs=3, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(Topics(), loader, DataLoader(sentences(200), 50, collate_fn=collate))
