"""The network returns probabilities in eval mode, as many vision models do; val_loss never falls below 1.4.

Source: https://github.com/zijundeng/R3Net/issues/3 (the last activation is for evaluation alone) and
https://github.com/Randl/MobileNetV2-pytorch/issues/5.
Added: 2026-11-28. Rules changed because of it: none.
"""

import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, random_split

DIAGNOSES = ("double-softmax",)
PLACE = "softmax_when_evaluating.py:29"
PRESET = "standard"


class Network(nn.Module):
    def __init__(self, mended: bool) -> None:
        super().__init__()
        self.mended = mended
        self.stem = nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.SiLU(), nn.AvgPool2d(2))
        self.head, self.softmax = nn.Linear(256, 10), nn.Softmax(dim=-1)

    def forward(self, image):
        x = self.head(self.stem(image).flatten(1))
        if not self.training and not self.mended:
            x = self.softmax(x)
        return x


class Lit(LightningModule):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network, self.criterion = network, nn.CrossEntropyLoss()

    def step(self, batch, name):
        output = self.network(batch[0])
        loss = self.criterion(output, batch[1])
        self.log(f"{name}_loss", loss)
        return loss

    def training_step(self, batch, batch_idx):
        return self.step(batch, "train")

    def validation_step(self, batch, batch_idx):
        return self.step(batch, "val")

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.05, momentum=0.9)


def main(mended: bool, seed: int) -> None:
    seed_everything(seed)
    digits = load_digits()
    image = torch.tensor(digits.images, dtype=torch.float32)[:, None] / 8 - 1
    train, val = random_split(TensorDataset(image, torch.tensor(digits.target)), [1500, 297])
    trainer = Trainer(max_epochs=3, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(Lit(Network(mended)), DataLoader(train, 50, shuffle=True), DataLoader(val, 99))
