"""A tagger's loss is NaN in one step of an epoch; the sentences of that batch have no label.

Source: https://github.com/pytorch/pytorch/issues/70348 (cross entropy of nothing but ignore_index).
Added: 2026-11-28. Rules changed because of it: none.
"""

import torch
import torch.nn.functional as F
from lightning import LightningModule, Trainer, seed_everything
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

DIAGNOSES = ("nonfinite-loss",)
PLACE = "cross_entropy"
PRESET = "standard"


class Tagger(LightningModule):
    def __init__(self, mended):
        super().__init__()
        self.mended = mended
        self.embed = nn.Embedding(60, 16)
        self.lstm = nn.LSTM(16, 24, batch_first=True, bidirectional=True)
        self.tag = nn.Linear(48, 5)

    def training_step(self, batch, batch_idx):
        words, tags = batch
        logits = self.tag(self.lstm(self.embed(words))[0]).transpose(1, 2)
        if self.mended:
            known = (tags != -1).sum().clamp_min(1)
            loss = F.cross_entropy(logits, tags, ignore_index=-1, reduction="sum") / known
        else:
            loss = F.cross_entropy(logits, tags, ignore_index=-1)
        self.log("loss", loss)
        return loss

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=5e-3)


def main(mended, seed):
    seed_everything(seed)
    words = torch.randint(0, 60, (240, 10))
    tags = words % 5
    tags[torch.rand(240) < 0.5] = -1  # half of the corpus is not annotated
    loader = DataLoader(TensorDataset(words, tags), batch_size=3, shuffle=True)
    trainer = Trainer(max_epochs=2, accelerator="cpu", enable_progress_bar=False, enable_model_summary=False)
    trainer.fit(Tagger(mended), loader)
