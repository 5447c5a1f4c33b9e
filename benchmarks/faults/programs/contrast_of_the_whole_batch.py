"""Images are brought to mean 0 and deviation 1, all of a batch together: one bright neighbour changes the verdict.

Source: https://github.com/deepinv/deepinv/pull/1079 (mean and deviation of the whole batch tensor) and
https://github.com/keunwoochoi/kapre/issues/16.
Added: 2026-11-30. Rules changed because of it: none.
"""

import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, random_split

DIAGNOSES = ("batch-leak",)
PLACE = "contrast_of_the_whole_batch.py:33"
PRESET = "standard"
AGAIN = "standardise_in_forward"


class Exposure(LightningModule):
    """Digits under lamps of very different strength."""

    def __init__(self, mended):
        super().__init__()
        self.mended = mended
        self.conv = nn.Sequential(nn.Conv2d(1, 16, 3), nn.SiLU(), nn.Conv2d(16, 16, 3), nn.SiLU(), nn.Flatten())
        self.fc = nn.Linear(256, 10)

    def forward(self, x):
        if self.mended:
            x = (x - x.mean((1, 2, 3), keepdim=True)) / x.std((1, 2, 3), keepdim=True)
        else:
            x = (x - x.mean()) / x.std()
        return self.fc(self.conv(x))

    def training_step(self, batch, batch_idx):
        loss = nn.functional.cross_entropy(self(batch[0]), batch[1])
        self.log("loss", loss)
        return loss

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", nn.functional.cross_entropy(self(batch[0]), batch[1]))

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=2e-3)


def main(mended, seed):
    seed_everything(seed)
    digits = load_digits()
    image = torch.tensor(digits.images / 16, dtype=torch.float32)[:, None]
    image = image * torch.exp(0.7 * torch.randn(len(image), 1, 1, 1))
    train, val = random_split(TensorDataset(image, torch.tensor(digits.target)), [1500, 297])
    trainer = Trainer(max_epochs=3, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(Exposure(mended), DataLoader(train, 50, shuffle=True), DataLoader(val, 99))
