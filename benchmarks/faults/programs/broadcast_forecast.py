"""One-step forecasts with a GRU are a flat line at the mean of the series; PyTorch printed a warning nobody read.

Source: https://github.com/jsboige/CoursIA/pull/926 ((B, 1) against (B,) in MSELoss when pred_len is 1).
Added: 2026-11-28. Rules changed because of it: none.
"""

import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from torch import nn
from torch.utils.data import DataLoader, Dataset

DIAGNOSES = ("shape-broadcast",)
PLACE = "broadcast_forecast.py:41"
PRESET = "standard"


class Windows(Dataset):
    def __init__(self, series: torch.Tensor, length: int = 24) -> None:
        self.series, self.length = series, length

    def __len__(self):
        return len(self.series) - self.length

    def __getitem__(self, i):
        return self.series[i : i + self.length, None], self.series[i + self.length]


class Forecaster(LightningModule):
    def __init__(self, mended: bool, pred_len: int = 1) -> None:
        super().__init__()
        self.mended = mended
        self.rnn = nn.GRU(1, 24, batch_first=True)
        self.head = nn.Linear(24, pred_len)
        self.criterion = nn.MSELoss()

    def training_step(self, batch, batch_idx):
        window, y = batch
        prediction = self.head(self.rnn(window)[0][:, -1])
        if self.mended:
            y = y.view_as(prediction)
        return self.criterion(prediction, y)

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=5e-3)


def main(mended: bool, seed: int) -> None:
    seed_everything(seed)
    time = torch.arange(2000.0)
    series = torch.sin(time / 6) + 0.5 * torch.sin(time / 17) + 0.1 * torch.randn(2000)
    trainer = Trainer(max_epochs=2, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(Forecaster(mended), DataLoader(Windows(series), batch_size=64, shuffle=True))
