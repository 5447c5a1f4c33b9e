"""Sales forecasts got no better when weather was added; removing it again changed nothing at all.

Source: https://github.com/rewind-reward/ReWiND/issues/1 and https://github.com/facebookresearch/fairseq/issues/1682
(an argument of forward that is never used).
Added: 2026-11-28. Rules changed because of it: none.
"""

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule, Trainer, seed_everything
from torch import nn
from torch.utils.data import DataLoader, Dataset

DIAGNOSES = ("unused-input", "no-gradient")
PLACE = "weather"
PRESET = "standard"


class Shops(Dataset):
    def __init__(self, size: int) -> None:
        self.history, self.weather = torch.randn(size, 14), torch.randn(size, 3)
        self.sales = self.history[:, -3:].mean(1) + self.weather[:, 0] - 0.5 * self.weather[:, 1].relu()

    def __len__(self):
        return len(self.sales)

    def __getitem__(self, i):
        return {"history": self.history[i], "weather": self.weather[i], "sales": self.sales[i]}


class TwoTowers(LightningModule):
    def __init__(self, mended: bool) -> None:
        super().__init__()
        self.mended = mended
        self.history_net = nn.Sequential(nn.Linear(14, 32), nn.ReLU())
        self.weather_net = nn.Sequential(nn.Linear(3, 32), nn.ReLU())
        self.head = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 1))

    def forward(self, history, weather):
        a = self.history_net(history)
        b = self.weather_net(weather)
        both = torch.cat([a, b], dim=1) if self.mended else torch.cat([a, a], dim=1)
        return self.head(both).squeeze(1)

    def training_step(self, batch, batch_idx):
        return F.mse_loss(self(batch["history"], batch["weather"]), batch["sales"])

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=2e-3)


def main(mended: bool, seed: int) -> None:
    seed_everything(seed)
    trainer = Trainer(max_epochs=3, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(TwoTowers(mended), DataLoader(Shops(1500), batch_size=50, shuffle=True))
