"""Healthy: padding has the label 0 and no weight in the loss; the model never answers 0, as nothing asks it to.

Source: https://github.com/huggingface/transformers/issues/34242 (which tokens a loss is averaged over).
Added: 2026-11-28. Rules changed because of it: none.
"""

import torch
import torch.nn.functional as F
from lightning import LightningModule, Trainer, seed_everything
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

DIAGNOSES = ()
PLACE = None
PRESET = "thorough"


class Tagger(LightningModule):
    """Is a number larger than the one before it? Most of a padded sequence is padding."""

    def __init__(self):
        super().__init__()
        self.rnn = nn.GRU(1, 24, batch_first=True)
        self.tag = nn.Linear(24, 3)

    def losses(self, batch):
        x, tags, mask = batch
        each = F.cross_entropy(self.tag(self.rnn(x)[0]).transpose(1, 2), tags, reduction="none")
        return (each * mask).sum() / mask.sum()

    def training_step(self, batch, batch_idx):
        loss = self.losses(batch)
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", self.losses(batch))

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-2)


def main(mended, seed):
    seed_everything(seed)
    x = torch.randn(900, 16)
    tags = torch.zeros(900, 16, dtype=torch.long)
    tags[:, 1:] = 1 + (x[:, 1:] > x[:, :-1])
    mask = (torch.arange(16) < torch.randint(3, 9, (900, 1))).float()
    x, tags = x * mask, (tags * mask).long()
    data = TensorDataset(x[..., None], tags, mask)
    train, val = torch.utils.data.random_split(data, [700, 200])
    trainer = Trainer(max_epochs=6, accelerator="cpu", enable_progress_bar=False, enable_model_summary=False)
    trainer.fit(Tagger(), DataLoader(train, batch_size=50, shuffle=True), DataLoader(val, batch_size=50))
