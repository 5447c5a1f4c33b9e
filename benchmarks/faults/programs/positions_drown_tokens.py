"""A small language model answers the same token everywhere; its loss is flat at the entropy of the tokens.

Source: https://stackoverflow.com/questions/74877936 (the model predicts a constant).
Added: 2026-11-28. Rules changed because of it: none.
"""

import torch
import torch.nn.functional as F
from lightning import LightningModule, Trainer, seed_everything
from torch import nn
from torch.utils.data import DataLoader

DIAGNOSES = ("no-better-than-trivial", "saturated-units", "input-not-normalized", "constant-output")
PLACE = None
PRESET = "thorough"


class Bigram(LightningModule):
    """The next token depends on the one before; positions are numbers that nobody scaled."""

    def __init__(self, mended):
        super().__init__()
        self.token = nn.Embedding(20, 24)
        nn.init.normal_(self.token.weight, std=0.02)
        self.scale = 0.02 if mended else 40.0
        self.project = nn.Linear(24, 24)
        self.norm, self.head = nn.LayerNorm(24), nn.Linear(24, 20)

    def forward(self, tokens):
        place = torch.arange(tokens.shape[1])[:, None] / (1.0 + torch.arange(24))
        hidden = torch.tanh(self.project(self.token(tokens) + self.scale * place))
        return self.head(self.norm(hidden))

    def step(self, text, name):
        loss = F.cross_entropy(self(text[:, :-1]).flatten(0, 1), text[:, 1:].flatten())
        self.log(name, loss)
        return loss

    def training_step(self, batch, batch_idx):
        return self.step(batch, "train_loss")

    def validation_step(self, batch, batch_idx):
        self.step(batch, "val_loss")

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-3)


def main(mended, seed):
    seed_everything(seed)
    chances = torch.full((20, 20), 0.2)
    chances[torch.arange(20), torch.randperm(20)] = 12
    text = torch.randint(0, 20, (900, 17))
    for k in range(1, 17):
        text[:, k] = torch.multinomial(chances[text[:, k - 1]], 1).squeeze(1)
    trainer = Trainer(max_epochs=6, accelerator="cpu", enable_progress_bar=False, enable_model_summary=False)
    trainer.fit(
        Bigram(mended), DataLoader(text[:700], batch_size=20, shuffle=True), DataLoader(text[700:], batch_size=50)
    )
