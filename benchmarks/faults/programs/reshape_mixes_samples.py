"""Spelling names, (time, batch, hidden) from an LSTM: accuracy is near chance, and changes with the batch size.

Source: https://github.com/vitrioil/Speech-Separation/issues/4 (view in place of permute mixes the data).
Added: 2026-11-28. Rules changed because of it: batch-leak (leaks into a few samples).
"""

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule, Trainer, seed_everything
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

DIAGNOSES = ("batch-leak",)
PLACE = "reshape_mixes_samples.py:30"
PRESET = "standard"


class Names(LightningModule):
    def __init__(self, mended: bool) -> None:
        super().__init__()
        self.mended = mended
        self.embed = nn.Embedding(28, 12)
        self.lstm = nn.LSTM(12, 16)
        self.out = nn.Linear(16 * 8, 3)

    def forward(self, x):
        output, _ = self.lstm(self.embed(x).transpose(0, 1))  # time, batch, hidden
        if self.mended:
            return self.out(output.transpose(0, 1).reshape(len(x), -1))
        return self.out(output.reshape(x.shape[0], -1))

    def training_step(self, batch, batch_idx):
        name, country = batch
        loss = F.cross_entropy(self(name), country)
        self.log("loss", loss)
        return loss

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=3e-3)


def main(mended: bool, seed: int) -> None:
    seed_everything(seed)
    country = torch.randint(3, (1800,))
    name = torch.randint(1, 28, (1800, 8))
    name[:, -1] = 1 + country * 9 + torch.randint(9, (1800,))
    trainer = Trainer(max_epochs=2, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(Names(mended), DataLoader(TensorDataset(name, country), batch_size=30, shuffle=True))
