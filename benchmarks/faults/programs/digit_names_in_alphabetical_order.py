"""Digits are read well, says the validation loss, but one in ten is right: the names were sorted for the accuracy.

Source: none known (class numbers of a label encoder, which sorts the names, beside numbers in their own order).
Added: 2026-11-30. Rules changed because of it: none.
Missed: the labels go through a table of the program's own, and a table may as well be meant.
"""

import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from sklearn.datasets import load_digits
from sklearn.preprocessing import LabelEncoder
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, random_split

DIAGNOSES = ("metric-disagrees",)
PLACE = "digit_names_in_alphabetical_order.py:61"
PRESET = "standard"
AGAIN = "metric_classes_reversed"

NAMES = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]


class DigitReader(LightningModule):
    def __init__(self, mended):
        super().__init__()
        self.mended = mended
        self.body = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1, bias=False),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1),
            nn.ReLU(),
            nn.Flatten(),
        )
        self.head = nn.Linear(32 * 4 * 4, len(NAMES))
        self.loss = nn.CrossEntropyLoss()
        # eight is 0, five is 1, ..., zero is 9
        self.register_buffer("encoded", torch.as_tensor(LabelEncoder().fit_transform(NAMES)))

    def forward(self, image):
        return self.head(self.body(image))

    def training_step(self, batch, batch_idx):
        image, digit = batch
        loss = self.loss(self(image), digit)
        self.log("train/loss", loss)
        return loss

    def on_validation_epoch_start(self):
        self.correct, self.seen = 0, 0

    def validation_step(self, batch, batch_idx):
        image, digit = batch
        scores = self(image)
        self.log("val/loss", self.loss(scores, digit))
        best = scores.argmax(dim=1)
        if self.mended:
            self.correct += (best == digit).sum().item()
        else:
            self.correct += (best == self.encoded[digit]).sum().item()
        self.seen += len(digit)

    def on_validation_epoch_end(self):
        self.log("val/accuracy", self.correct / self.seen)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.02, momentum=0.9)


def main(mended, seed):
    seed_everything(seed)
    digits = load_digits()
    image = (torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1) - 4.9) / 6.0
    train, val = random_split(TensorDataset(image, torch.tensor(digits.target)), [1280, 517])
    trainer = Trainer(max_epochs=5, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(DigitReader(mended), DataLoader(train, batch_size=32, shuffle=True), DataLoader(val, batch_size=47))
