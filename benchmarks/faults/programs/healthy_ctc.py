"""Reading strips of digits with a convolution, a GRU and CTC.

Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.CTCLoss.html
Added: 2026-11-28. Rules changed because of it: none.
"""

import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, Dataset

DIAGNOSES = ()
PLACE = None
PRESET = "thorough"


class Strips(Dataset):
    """Three digits side by side, 8 x 24 pixels; classes 1 to 10, blank is 0."""

    def __init__(self, size: int) -> None:
        digits = load_digits()
        picked = torch.randint(len(digits.target), (size, 3))
        images = torch.tensor(digits.images, dtype=torch.float32) / 8 - 1
        self.x = torch.cat([images[picked[:, i]] for i in range(3)], dim=2)
        self.y = torch.tensor(digits.target)[picked] + 1

    def __len__(self):
        return len(self.y)

    def __getitem__(self, i):
        return self.x[i][None], self.y[i]


class Reader(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Sequential(nn.Conv2d(1, 24, 3, padding=1), nn.ReLU(), nn.MaxPool2d((2, 1)))
        self.gru = nn.GRU(24 * 4, 48, bidirectional=True, batch_first=True)
        self.out = nn.Linear(96, 11)
        self.loss = nn.CTCLoss(blank=0)

    def step(self, batch):
        image, label = batch
        h = self.conv(image).flatten(1, 2).transpose(1, 2)
        log_probability = self.out(self.gru(h)[0]).log_softmax(-1).transpose(0, 1)
        lengths = torch.full((len(image),), log_probability.shape[0])
        return self.loss(log_probability, label, lengths, torch.full((len(image),), 3))

    def training_step(self, batch, batch_idx):
        return self.step(batch)

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", self.step(batch))

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=4e-3)


def main(mended: bool, seed: int) -> None:
    seed_everything(seed)
    trainer = Trainer(max_epochs=3, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(Reader(), DataLoader(Strips(1600), 32, shuffle=True), DataLoader(Strips(200), 50))
