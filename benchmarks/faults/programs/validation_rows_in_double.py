"""Training rows were cast to float32 and cached; validation is read from the table of before, with rows of both.

Source: https://github.com/abdoelsayed2016/TNCR_Dataset/issues/3 and https://github.com/sergeywong/cp-vton/issues/42
(samples that are in training and in validation).
Added: 2026-11-30. Rules changed because of it: none.
"""

import numpy as np
import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from sklearn.datasets import load_breast_cancer
from torch import nn
from torch.utils.data import DataLoader, Dataset

DIAGNOSES = ("train-val-overlap",)
PLACE = None
PRESET = "standard"
AGAIN = "validation_copied_as_double"


class Table(Dataset):
    def __init__(self, values, labels):
        self.values, self.labels = values, labels

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, i):
        return self.values[i], int(self.labels[i])


class Tumours(LightningModule):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(30, 32), nn.ReLU(), nn.Dropout(0.2), nn.Linear(32, 2))

    def forward(self, values):
        return self.net(values.to(torch.float32))

    def training_step(self, batch, batch_idx):
        loss = nn.functional.cross_entropy(self(batch[0]), batch[1])
        self.log("loss", loss)
        return loss

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", nn.functional.cross_entropy(self(batch[0]), batch[1]))

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-3)


def main(mended, seed):
    seed_everything(seed)
    values, labels = load_breast_cancer(return_X_y=True)
    values = (values - values.mean(0)) / values.std(0)  # float64
    order = np.random.default_rng(seed).permutation(len(labels))
    np.save("train.npy", values[order[:420]].astype(np.float32))
    rows = order[420:] if mended else order[320:]
    train = Table(np.load("train.npy"), labels[order[:420]])
    val = Table(values[rows], labels[rows])
    trainer = Trainer(max_epochs=6, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(Tumours(), DataLoader(train, batch_size=30, shuffle=True), DataLoader(val, batch_size=64))
