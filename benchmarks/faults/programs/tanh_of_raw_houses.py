"""A tanh network on raw areas and years predicts the mean price.

Source: https://www.kaggle.com/datasets/dansbecker/melbourne-housing-snapshot (unscaled features; DeepFD, bug 52).
Added: 2026-11-28. Rules changed because of it: none.
"""

import torch
from lightning import LightningModule, Trainer, seed_everything
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

DIAGNOSES = ("saturated-units", "input-not-normalized", "constant-output")
PLACE = None
PRESET = "standard"


class Price(LightningModule):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(5, 32), nn.Tanh(), nn.Linear(32, 16), nn.Tanh(), nn.Linear(16, 1))

    def training_step(self, batch, batch_idx):
        loss = nn.functional.mse_loss(self.net(batch[0]).squeeze(1), batch[1])
        self.log("mse", loss)
        return loss

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-3)


def main(mended, seed):
    seed_everything(seed)
    rooms, area = torch.randint(1, 7, (1200,)).float(), 40 + 400 * torch.rand(1200)
    year, metres, post = 1900 + 120 * torch.rand(1200), 20000 * torch.rand(1200), 3000 + 200 * torch.rand(1200)
    x = torch.stack([rooms, area, year, metres, post], 1)
    price = rooms * 80 + area * 2 - metres * 0.01 + 0.5 * (year - 1900) + 30 * torch.randn(1200)
    if mended:
        x = (x - x.mean(0)) / x.std(0)
    data = TensorDataset(x, (price - price.mean()) / price.std())
    trainer = Trainer(max_epochs=5, accelerator="cpu", enable_progress_bar=False, enable_model_summary=False)
    trainer.fit(Price(), DataLoader(data, batch_size=40, shuffle=True))
