"""All weights of a convolutional network were set to 0 in a loop over parameters(): the loss is ln 10 and stays.

Source: https://stackoverflow.com/questions/36127436 and https://stackoverflow.com/questions/42516484 (zero weights).
Added: 2026-11-28. Rules changed because of it: symmetric-init (all weights 0).
"""

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule, Trainer, seed_everything
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

DIAGNOSES = ("symmetric-init",)
PLACE = None
PRESET = "standard"


class Net(LightningModule):
    def __init__(self, mended: bool) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 8, 3), nn.Conv2d(8, 16, 3)
        self.fc = nn.Linear(16 * 16, 10)
        for p in self.parameters():
            if p.dim() > 1 and mended:
                nn.init.kaiming_normal_(p)
            else:
                nn.init.zeros_(p)

    def forward(self, image):
        return self.fc(F.relu(self.conv2(F.relu(self.conv1(image)))).flatten(1))

    def training_step(self, batch, batch_idx):
        loss = F.cross_entropy(self(batch[0]), batch[1])
        self.log("train_loss", loss)
        return loss

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-3)


def main(mended: bool, seed: int) -> None:
    seed_everything(seed)
    digits = load_digits()
    image = torch.tensor(digits.images, dtype=torch.float32)[:, None] / 8 - 1
    trainer = Trainer(max_epochs=3, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(Net(mended), DataLoader(TensorDataset(image, torch.tensor(digits.target)), 50, shuffle=True))
