"""Pretrained weights are loaded, and the first loss is that of a new network.

Source: https://github.com/huggingface/transformers/issues/17877 (loaded weights are initialised again; TrainCheck).
Added: 2026-11-28. Rules changed because of it: weights-overwritten (loads into a part of the model).
"""

import torch
import torch.nn.functional as F
from lightning import LightningModule, Trainer, seed_everything
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

DIAGNOSES = ("weights-overwritten",)
PLACE = "trunk"
PRESET = "standard"


def trunk():
    return nn.Sequential(nn.Linear(64, 48), nn.ReLU(), nn.Linear(48, 48), nn.ReLU())


class Tuned(LightningModule):
    def __init__(self, mended):
        super().__init__()
        self.mended = mended
        self.trunk, self.head = trunk(), nn.Linear(48, 10)

    def setup(self, stage):
        self.trunk.load_state_dict(torch.load("trunk.pt"))

    def on_fit_start(self):
        (self.head if self.mended else self).apply(self.initialise)  # "only for the new head"

    @staticmethod
    def initialise(part):
        if isinstance(part, nn.Linear):
            nn.init.xavier_uniform_(part.weight)
            nn.init.zeros_(part.bias)

    def training_step(self, batch, batch_idx):
        loss = F.cross_entropy(self.head(self.trunk(batch[0])), batch[1])
        self.log("loss", loss)
        return loss

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-3)


def main(mended, seed):
    seed_everything(seed)
    torch.save(trunk().state_dict(), "trunk.pt")  # stands for a file from elsewhere
    digits = load_digits()
    data = TensorDataset(torch.tensor(digits.data, dtype=torch.float32) / 16, torch.tensor(digits.target))
    trainer = Trainer(max_epochs=2, accelerator="cpu", enable_progress_bar=False, enable_model_summary=False)
    trainer.fit(Tuned(mended), DataLoader(data, batch_size=60, shuffle=True))
