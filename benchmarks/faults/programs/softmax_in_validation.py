"""The training loss goes to 0.1, the validation loss stays at 1.5, and early stopping ends the run too soon.

Source: https://github.com/DSKSD/DeepNLP-models-Pytorch/issues/2 (softmax before CrossEntropyLoss).
Added: 2026-11-28. Rules changed because of it: none.
"""

import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from lightning.pytorch.callbacks import EarlyStopping
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from torchmetrics.classification import MulticlassAccuracy

DIAGNOSES = ("double-softmax",)
PLACE = "softmax_in_validation.py:37"
PRESET = "standard"


class MLP(LightningModule):
    def __init__(self, mended: bool) -> None:
        super().__init__()
        self.mended = mended
        self.net = nn.Sequential(nn.Linear(64, 128), nn.GELU(), nn.Dropout(0.1), nn.Linear(128, 10))
        self.loss = nn.CrossEntropyLoss()
        self.accuracy = MulticlassAccuracy(num_classes=10)

    def training_step(self, batch, batch_idx):
        x, y = batch
        return self.loss(self.net(x), y)

    def validation_step(self, batch, batch_idx):
        x, y = batch
        logits = self.net(x)
        probabilities = torch.softmax(logits, dim=1)
        self.log("val_loss", self.loss(logits if self.mended else probabilities, y))
        self.accuracy(probabilities, y)
        self.log("val_acc", self.accuracy)

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=2e-3)


def main(mended: bool, seed: int) -> None:
    seed_everything(seed)
    x, y = load_digits(return_X_y=True)
    x = torch.tensor(x / 16, dtype=torch.float32)
    x_train, x_val, y_train, y_val = train_test_split(x, torch.tensor(y), test_size=0.25, random_state=seed, stratify=y)
    trainer = Trainer(
        max_epochs=6,
        callbacks=[EarlyStopping("val_loss", patience=3)],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
    )
    train = DataLoader(TensorDataset(x_train, y_train), 32, shuffle=True)
    trainer.fit(MLP(mended), train, DataLoader(TensorDataset(x_val, y_val), 100))
