"""Tagging tokens with nn.TransformerEncoder: high training loss, and predictions that differ from batch to batch.

Source: https://github.com/Exorust/TorchLeet/issues/5 and https://github.com/IBM/TabFormer/pull/14 (batch_first).
Added: 2026-11-28. Rules changed because of it: batch-leak (a label for each token).
"""

import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from torch import nn
from torch.utils.data import DataLoader, Dataset

DIAGNOSES = ("batch-leak",)
PLACE = "encoder"
PRESET = "standard"


class Sequences(Dataset):
    """A tag is 1 where the token is the largest of its sequence."""

    def __init__(self, size: int) -> None:
        self.tokens = torch.randint(60, (size, 12))
        self.tags = (self.tokens == self.tokens.max(1, keepdim=True).values).long()

    def __len__(self):
        return len(self.tokens)

    def __getitem__(self, i):
        return {"tokens": self.tokens[i], "tags": self.tags[i]}


class Tagger(LightningModule):
    def __init__(self, mended: bool) -> None:
        super().__init__()
        self.embed = nn.Embedding(60, 32)
        layer = nn.TransformerEncoderLayer(32, 4, 64, dropout=0.0, batch_first=mended)
        self.encoder = nn.TransformerEncoder(layer, num_layers=2, enable_nested_tensor=False)
        self.head = nn.Linear(32, 2)
        self.loss = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 5.0]))

    def forward(self, tokens):
        return self.head(self.encoder(self.embed(tokens)))

    def training_step(self, batch, batch_idx):
        return self.loss(self(batch["tokens"]).flatten(0, 1), batch["tags"].flatten())

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=1e-3)


def main(mended: bool, seed: int) -> None:
    seed_everything(seed)
    trainer = Trainer(max_epochs=2, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(Tagger(mended), DataLoader(Sequences(1600), batch_size=32, shuffle=True))
