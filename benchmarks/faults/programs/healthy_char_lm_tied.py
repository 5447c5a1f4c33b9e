"""A character language model with an LSTM and tied input and output embeddings.

Source: https://github.com/pytorch/examples/tree/main/word_language_model
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


class Words(Dataset):
    """Sentences of a small grammar, one long text, cut into pieces that do not overlap."""

    def __init__(self, pieces: int, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        words = ["the", "old", "dog", "cat", "sees", "hears", "a", "red", "house", "and", "then"]
        picked = torch.randint(len(words), (pieces * 12,), generator=generator).tolist()
        text = " ".join(words[i] for i in picked)
        alphabet = " abcdefghijklmnopqrstuvwxyz"
        self.ids = torch.tensor([alphabet.index(c) for c in text])
        self.pieces = pieces

    def __len__(self):
        return self.pieces

    def __getitem__(self, i):
        return self.ids[i * 32 : i * 32 + 33]


class CharLM(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(27, 48)
        self.lstm = nn.LSTM(48, 48, batch_first=True)
        self.out = nn.Linear(48, 27)
        self.out.weight = self.embed.weight
        nn.init.normal_(self.embed.weight, std=0.1)

    def step(self, ids):
        logits = self.out(self.lstm(self.embed(ids[:, :-1]))[0])
        return F.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())

    def training_step(self, ids, batch_idx):
        return self.step(ids)

    def validation_step(self, ids, batch_idx):
        self.log("val_loss", self.step(ids))

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=3e-3)


def main(mended: bool, seed: int) -> None:
    seed_everything(seed)
    trainer = Trainer(
        max_epochs=3, gradient_clip_val=1.0, logger=False, enable_checkpointing=False, enable_progress_bar=False
    )
    train = DataLoader(Words(1200, seed), 24, shuffle=True)
    trainer.fit(CharLM(), train, DataLoader(Words(120, seed + 1), 24))
