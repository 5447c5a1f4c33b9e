"""Tagging with a linear-chain CRF written by hand (forward algorithm); its loss is a negative log-likelihood.

Source: https://docs.pytorch.org/tutorials/beginner/nlp/advanced_tutorial.html
Added: 2026-11-28. Rules changed because of it: none.
"""

import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

DIAGNOSES = ()
PLACE = None
PRESET = "thorough"


class CRF(nn.Module):
    def __init__(self, tags: int) -> None:
        super().__init__()
        self.transition = nn.Parameter(torch.randn(tags, tags) * 0.1)

    def forward(self, emission, tags):
        """Mean negative log-likelihood of tags (B, T) under emissions (B, T, K)."""
        score = emission.gather(2, tags[..., None]).sum((1, 2)) + self.transition[tags[:, :-1], tags[:, 1:]].sum(1)
        alpha = emission[:, 0]
        for t in range(1, emission.shape[1]):
            alpha = torch.logsumexp(alpha[:, :, None] + self.transition, dim=1) + emission[:, t]
        return (torch.logsumexp(alpha, dim=1) - score).mean()


class Tagger(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.lstm = nn.Embedding(40, 16), nn.LSTM(16, 24, batch_first=True, bidirectional=True)
        self.out, self.crf = nn.Linear(48, 4), CRF(4)

    def step(self, batch):
        tokens, tags = batch
        return self.crf(self.out(self.lstm(self.embed(tokens))[0]), tags)

    def training_step(self, batch, batch_idx):
        return self.step(batch)

    def validation_step(self, batch, batch_idx):
        self.log("val_nll", self.step(batch))

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=5e-3)


def sentences(size: int) -> TensorDataset:
    tokens = torch.randint(40, (size, 9))
    tags = (tokens // 10 + torch.cat([torch.zeros(size, 1, dtype=torch.long), tokens[:, :-1] % 2], 1)) % 4
    return TensorDataset(tokens, tags)


def main(mended: bool, seed: int) -> None:
    seed_everything(seed)
    trainer = Trainer(max_epochs=2, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(Tagger(), DataLoader(sentences(1600), 32, shuffle=True), DataLoader(sentences(200), 50))
