"""A tagger of sequences predicts something else each time, although ``model.eval()`` is called.

Source: https://stackoverflow.com/questions/53419474 (``nn.Dropout`` and ``F.dropout`` in evaluation).
Added: 2026-11-30. Rules changed because of it: none.
"""

import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

DIAGNOSES = ("stochastic-eval",)
PLACE = "dropout_in_a_helper.py:20"
PRESET = "standard"
AGAIN = "dropout_built_in_forward"


def residual(layer, x, p):
    """Return the layer's output beside its input."""
    return x + nn.Dropout(p)(layer(x))


class Sorter(LightningModule):
    """Which of the eight tokens is the largest?"""

    def __init__(self, mended):
        super().__init__()
        self.mended = mended
        self.embed = nn.Embedding(50, 32)
        self.first, self.second = nn.Linear(32, 32), nn.Linear(32, 32)
        self.drop = nn.Dropout(0.2)
        self.pointer = nn.Linear(32, 1)

    def forward(self, tokens):
        h = self.embed(tokens)
        for layer in (self.first, self.second):
            if self.mended:
                h = h + self.drop(torch.relu(layer(h)))
            else:
                h = residual(nn.Sequential(layer, nn.ReLU()), h, 0.2)
        return self.pointer(h).squeeze(-1)

    def training_step(self, batch, batch_idx):
        return nn.functional.cross_entropy(self(batch[0]), batch[1])

    def validation_step(self, batch, batch_idx):
        self.log("val/loss", nn.functional.cross_entropy(self(batch[0]), batch[1]))

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=5e-3)


def tokens(size):
    drawn = torch.stack([torch.randperm(50)[:8] for _ in range(size)])
    return TensorDataset(drawn, drawn.argmax(1))


def main(mended, seed):
    seed_everything(seed)
    trainer = Trainer(max_epochs=3, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(Sorter(mended), DataLoader(tokens(1200), 30, shuffle=True), DataLoader(tokens(240), 60))
