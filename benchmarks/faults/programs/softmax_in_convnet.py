"""A small convolutional network for handwritten digits stops at a training loss of about 1.5 and will not go lower.

Source: https://github.com/sugi-chan/custom_bert_pipeline/issues/1 (softmax before nn.CrossEntropyLoss).
Added: 2026-11-28. Rules changed because of it: none.
"""

import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, random_split

DIAGNOSES = ("double-softmax",)
PLACE = "softmax_in_convnet.py:31"
PRESET = "standard"


class DigitNet(LightningModule):
    def __init__(self, mended: bool) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 12, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(12, 24, 3, padding=1), nn.ReLU()
        )
        head = [nn.Flatten(), nn.Linear(24 * 16, 10)]
        if not mended:
            head.append(nn.Softmax(dim=1))
        self.classifier = nn.Sequential(*head)
        self.criterion = nn.CrossEntropyLoss()

    def forward(self, image):
        return self.classifier(self.features(image))

    def training_step(self, batch, batch_idx):
        image, digit = batch
        return self.criterion(self(image), digit)

    def validation_step(self, batch, batch_idx):
        image, digit = batch
        self.log("val_acc", (self(image).argmax(1) == digit).float().mean())

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-3)


def main(mended: bool, seed: int) -> None:
    seed_everything(seed)
    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1) / 16
    train, val = random_split(TensorDataset(images, torch.tensor(digits.target)), [1500, 297])
    trainer = Trainer(max_epochs=3, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(DigitNet(mended), DataLoader(train, 64, shuffle=True), DataLoader(val, 64))
