"""The loss goes to ln 10 after a few steps and stays: raw pixels and a bold rate have killed the hidden layer.

Source: https://stackoverflow.com/questions/49891163 (dead ReLUs, a loss that is flat).
Added: 2026-11-28. Rules changed because of it: none.
"""

import torch
import torch.nn.functional as F
from lightning import LightningModule, Trainer, seed_everything
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

DIAGNOSES = ("dead-units", "update-ratio-high", "exploding-gradient", "constant-output", "input-not-normalized")
PLACE = None
PRESET = "standard"


class Pixels(LightningModule):
    def __init__(self, rate):
        super().__init__()
        self.rate = rate
        self.net = nn.Sequential(nn.Linear(64, 48), nn.ReLU(), nn.Linear(48, 24), nn.ReLU(), nn.Linear(24, 10))

    def training_step(self, batch, batch_idx):
        loss = F.cross_entropy(self.net(batch[0]), batch[1])
        self.log("loss", loss)
        return loss

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=self.rate, momentum=0.9)


def main(mended, seed):
    seed_everything(seed)
    digits = load_digits()
    x = torch.tensor(digits.data, dtype=torch.float32)
    data = TensorDataset(x / 16 if mended else x * 16, torch.tensor(digits.target))  # 0 to 255, as files have it
    trainer = Trainer(max_epochs=5, accelerator="cpu", enable_progress_bar=False, enable_model_summary=False)
    trainer.fit(Pixels(0.05), DataLoader(data, batch_size=40, shuffle=True))
