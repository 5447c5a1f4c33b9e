"""Pooling of image patches by attention: the map of weights is white for every image.

Source: https://github.com/localminimum/R-net/issues/8 (``expand_dims`` before the softmax makes all scores 1).
Added: 2026-11-30. Rules changed because of it: none.
"""

import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

DIAGNOSES = ("softmax-over-one", "zero-gradient")
PLACE = "scores_expanded_before_softmax.py:38"
PRESET = "standard"
AGAIN = "softmax_attention_of_one"


class PatchPooling(LightningModule):
    def __init__(self, mended):
        super().__init__()
        self.mended = mended
        self.patches = nn.Conv2d(1, 32, 2, stride=2)
        self.value = nn.Sequential(nn.Linear(32 + 4, 32), nn.GELU(), nn.Linear(32, 32))
        self.key = nn.Linear(36, 16)
        self.query = nn.Parameter(torch.randn(16) / 4)
        self.register_buffer("where", torch.nn.functional.one_hot(torch.arange(16) // 4, 4).float())
        self.head = nn.Linear(32, 10)

    def forward(self, image):
        patches = self.patches(image).flatten(2).transpose(1, 2)  # batch, patches, channels
        patches = torch.cat([patches, self.where.expand(len(image), -1, -1)], -1)
        scores = torch.tanh(self.key(patches)) @ self.query
        if self.mended:
            scores = torch.softmax(scores, dim=-1).unsqueeze(-1)
        else:
            scores = scores.unsqueeze(-1)
            scores = torch.softmax(scores, dim=-1)
        return self.head((scores * self.value(patches)).sum(1))

    def training_step(self, batch, batch_idx):
        loss = nn.functional.cross_entropy(self(batch[0]), batch[1])
        self.log("loss", loss)
        return loss

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=2e-3)


def main(mended, seed):
    seed_everything(seed)
    digits = load_digits()
    image = torch.tensor(digits.images / 8 - 1, dtype=torch.float32)[:, None]
    trainer = Trainer(max_epochs=2, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    data = TensorDataset(image, torch.tensor(digits.target))
    trainer.fit(PatchPooling(mended), DataLoader(data, batch_size=36, shuffle=True))
