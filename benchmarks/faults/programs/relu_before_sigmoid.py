"""Binary classification of two half moons: every probability is 0.5 or more, so recall is 1 and precision one half.

Source: https://discuss.pytorch.org/t/56327 (ReLU right before the sigmoid).
Added: 2026-11-28. Rules changed because of it: output-range (relu, then sigmoid).
"""

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule, Trainer, seed_everything
from sklearn.datasets import make_moons
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

DIAGNOSES = ("output-range",)
PLACE = "relu_before_sigmoid.py:29"
PRESET = "standard"


class Moons(LightningModule):
    def __init__(self, mended: bool) -> None:
        super().__init__()
        self.mended = mended
        self.fc1, self.fc2, self.fc3 = nn.Linear(2, 20), nn.Linear(20, 20), nn.Linear(20, 1)

    def forward(self, x):
        x = F.relu(self.fc2(F.relu(self.fc1(x))))
        x = self.fc3(x)
        if not self.mended:
            x = F.relu(x)
        return torch.sigmoid(x).squeeze(1)

    def training_step(self, batch, batch_idx):
        x, y = batch
        return F.binary_cross_entropy(self(x), y)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)


def main(mended: bool, seed: int) -> None:
    seed_everything(seed)
    x, y = make_moons(1200, noise=0.15, random_state=seed)
    data = TensorDataset(torch.tensor(x, dtype=torch.float32), torch.tensor(y, dtype=torch.float32))
    trainer = Trainer(max_epochs=4, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(Moons(mended), DataLoader(data, batch_size=30, shuffle=True))
