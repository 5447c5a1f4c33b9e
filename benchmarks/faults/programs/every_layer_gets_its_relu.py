"""Tags of documents: layers are made in a loop, each with its ReLU, the last one, too; no tag falls below one half.

Source: none known beside that of the first form (https://discuss.pytorch.org/t/56327).
Added: 2026-11-30. Rules changed because of it: none.
"""

from itertools import pairwise

import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from sklearn.datasets import make_multilabel_classification
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

DIAGNOSES = ("output-range",)
PLACE = "every_layer_gets_its_relu.py:37"
PRESET = "standard"
AGAIN = "relu_before_sigmoid"


def perceptron(sizes, mended):
    layers = []
    for a, b in pairwise(sizes):
        layers += [nn.Linear(a, b), nn.ReLU()]
    if mended:
        layers.pop()
    return nn.Sequential(*layers, nn.Sigmoid())


class Tagger(LightningModule):
    def __init__(self, mended):
        super().__init__()
        self.tagger = perceptron([30, 64, 32, 6], mended)
        self.criterion = nn.BCELoss()

    def forward(self, counts):
        return self.tagger(counts)

    def training_step(self, batch, batch_idx):
        counts, tags = batch
        loss = self.criterion(self(counts), tags)
        self.log("bce", loss)
        return loss

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-3)


def main(mended, seed):
    seed_everything(seed)
    x, y = make_multilabel_classification(1500, 30, n_classes=6, n_labels=2, random_state=seed)
    x = (x - x.mean(0)) / x.std(0)
    data = TensorDataset(torch.tensor(x, dtype=torch.float32), torch.tensor(y, dtype=torch.float32))
    trainer = Trainer(max_epochs=4, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(Tagger(mended), DataLoader(data, batch_size=50, shuffle=True))
