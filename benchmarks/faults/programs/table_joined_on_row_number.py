"""Two tables were joined by row number after one had been filtered: the classifier is right in every third case.

Source: https://stackoverflow.com/questions/40467990 and https://stackoverflow.com/questions/47866803 (labels that do
not belong to their inputs).
Added: 2026-11-28. Rules changed because of it: labels-unrelated-to-inputs.
"""

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule, Trainer, seed_everything
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, random_split

DIAGNOSES = ("labels-unrelated-to-inputs",)
PLACE = None
PRESET = "standard"


class Customers(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(6, 48), nn.ReLU(), nn.Linear(48, 3))

    def training_step(self, batch, batch_idx):
        return F.cross_entropy(self.net(batch[0]), batch[1])

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", F.cross_entropy(self.net(batch[0]), batch[1]))

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-3)


def main(mended: bool, seed: int) -> None:
    seed_everything(seed)
    rng = np.random.default_rng(seed)
    segment = rng.integers(0, 3, 1800)
    centres = rng.normal(0, 1.5, (3, 6))
    people = pd.DataFrame(centres[segment] + rng.normal(0, 1, (1800, 6)), index=rng.permutation(1800))
    answers = pd.Series(segment, index=people.index).sort_index()  # another system keeps them by number
    labels = answers.loc[people.index] if mended else answers
    data = TensorDataset(torch.tensor(people.to_numpy(), dtype=torch.float32), torch.tensor(labels.to_numpy()))
    train, val = random_split(data, [1500, 300])
    trainer = Trainer(max_epochs=3, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(Customers(), DataLoader(train, 50, shuffle=True), DataLoader(val, 100))
