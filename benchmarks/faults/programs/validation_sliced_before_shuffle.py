"""The training set was shuffled and cut, the validation set was cut without shuffling: val loss is a bit too good.

Source: https://github.com/marin-community/marin/pull/2700 (train and validation overlap).
Added: 2026-11-28. Rules changed because of it: none.
"""

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule, Trainer, seed_everything
from torch import nn
from torch.utils.data import DataLoader, Subset, TensorDataset

DIAGNOSES = ("train-val-overlap",)
PLACE = None
PRESET = "standard"


class SequenceLabeller(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(64, 16)
        self.conv = nn.Conv1d(16, 32, 3, padding=1)
        self.out = nn.Linear(32, 4)

    def forward(self, tokens):
        h = F.relu(self.conv(self.embed(tokens).transpose(1, 2)))
        return self.out(h.amax(dim=2))

    def training_step(self, batch, batch_idx):
        return F.cross_entropy(self(batch[0]), batch[1])

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", F.cross_entropy(self(batch[0]), batch[1]))

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=2e-3)


def main(mended: bool, seed: int) -> None:
    seed_everything(seed)
    label = torch.randint(4, (2000,))
    tokens = torch.randint(64, (2000, 14))
    tokens[torch.arange(2000), torch.randint(14, (2000,))] = 60 + label
    data = TensorDataset(tokens, label)
    val = Subset(data, range(1600, 2000))
    order = torch.randperm(1600 if mended else 2000).tolist()
    train = Subset(data, order[:1600])
    trainer = Trainer(max_epochs=2, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(SequenceLabeller(), DataLoader(train, 32, shuffle=True), DataLoader(val, 100))
