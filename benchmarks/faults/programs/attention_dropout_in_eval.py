"""Scores of a transformer classifier waver in validation; dropout of the modules is off, that of the attention is not.

Source: https://github.com/wenet-e2e/wenet/issues/2699 and the documentation of scaled_dot_product_attention:
"will always apply dropout according to the specified dropout_p".
Added: 2026-11-28. Rules changed because of it: none.
"""

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule, Trainer, seed_everything
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, random_split

DIAGNOSES = ("stochastic-eval",)
PLACE = "attention_dropout_in_eval.py:33"
PRESET = "standard"


class Rows(LightningModule):
    """Eight rows of a digit attend to each other."""

    def __init__(self, mended: bool) -> None:
        super().__init__()
        self.mended, self.dropout = mended, 0.2
        self.embed, self.position = nn.Linear(8, 32), nn.Parameter(torch.zeros(8, 32))
        self.qkv, self.out = nn.Linear(32, 96), nn.Linear(32, 10)

    def forward(self, image):
        x = F.gelu(self.embed(image) + self.position)
        q, k, v = (t.unflatten(2, (4, 8)).transpose(1, 2) for t in self.qkv(x).chunk(3, dim=-1))
        p = self.dropout if self.training or not self.mended else 0.0
        h = F.scaled_dot_product_attention(q, k, v, dropout_p=p)
        return self.out((x + h.transpose(1, 2).flatten(2)).mean(1))

    def training_step(self, batch, batch_idx):
        return F.cross_entropy(self(batch[0]), batch[1])

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", F.cross_entropy(self(batch[0]), batch[1]))

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=3e-3)


def main(mended: bool, seed: int) -> None:
    seed_everything(seed)
    digits = load_digits()
    image = torch.tensor(digits.images, dtype=torch.float32) / 8 - 1
    train, val = random_split(TensorDataset(image, torch.tensor(digits.target)), [1500, 297])
    trainer = Trainer(max_epochs=3, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(Rows(mended), DataLoader(train, 50, shuffle=True), DataLoader(val, 100))
