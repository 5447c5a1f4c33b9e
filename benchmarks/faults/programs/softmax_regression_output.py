"""Power curves of three turbines: the outputs always add up to 1, whatever the wind.

Source: https://stackoverflow.com/questions/33969059 (softmax as the output of a regression).
Added: 2026-11-28. Rules changed because of it: none.
"""

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule, Trainer, seed_everything
from torch import nn
from torch.utils.data import DataLoader, Dataset

DIAGNOSES = ("output-range",)
PLACE = "softmax_regression_output.py:40"
PRESET = "standard"


class Wind(Dataset):
    def __init__(self, size: int) -> None:
        self.wind = torch.rand(size, 4) * 2 - 1
        speed = 8 + 6 * self.wind[:, :1]
        self.power = (speed / 12).clamp(max=1) ** 3 * torch.tensor([2.0, 3.0, 5.0]) + 0.1 * torch.randn(size, 3)

    def __len__(self):
        return len(self.wind)

    def __getitem__(self, i):
        return {"wind": self.wind[i], "power": self.power[i]}


class Farm(LightningModule):
    def __init__(self, mended: bool) -> None:
        super().__init__()
        self.mended = mended
        self.body, self.out = nn.Sequential(nn.Linear(4, 32), nn.Tanh()), nn.Linear(32, 3)

    def forward(self, wind):
        power = self.out(self.body(wind))
        if not self.mended:
            power = F.softmax(power, dim=1)
        return power

    def training_step(self, batch, batch_idx):
        return F.huber_loss(self(batch["wind"]), batch["power"])

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=5e-3)


def main(mended: bool, seed: int) -> None:
    seed_everything(seed)
    trainer = Trainer(max_epochs=3, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(Farm(mended), DataLoader(Wind(1200), batch_size=40, shuffle=True))
