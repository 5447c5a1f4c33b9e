"""A regression with a noise layer of one's own: the same input gives another prediction every time it is asked.

Source: https://github.com/pytorch/pytorch/issues/26338 (eval mode does not reach what is functional).
Added: 2026-11-28. Rules changed because of it: none.
Missed: noise of one's own in evaluation is meant in channels, variational autoencoders and diffusion; no number tells
a forgotten `self.training` from them.
"""

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule, Trainer, seed_everything
from sklearn.datasets import load_diabetes
from sklearn.preprocessing import scale
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, random_split

DIAGNOSES = ("stochastic-eval",)
PLACE = "noise_layer_in_eval.py:30"
PRESET = "standard"


class GaussianNoise(nn.Module):
    def __init__(self, std: float, mended: bool) -> None:
        super().__init__()
        self.std, self.mended = std, mended

    def forward(self, x):
        if self.mended and not self.training:
            return x
        return x + self.std * torch.randn_like(x)


class Progression(LightningModule):
    def __init__(self, mended: bool) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(10, 40), nn.ReLU(), GaussianNoise(0.2, mended), nn.Linear(40, 1), nn.Flatten(0)
        )

    def training_step(self, batch, batch_idx):
        return F.mse_loss(self.net(batch["x"]), batch["y"])

    def validation_step(self, batch, batch_idx):
        self.log("val_mse", F.mse_loss(self.net(batch["x"]), batch["y"]))

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=3e-3)


def collate(samples):
    x, y = zip(*samples, strict=True)
    return {"x": torch.stack(x), "y": torch.stack(y)}


def main(mended: bool, seed: int) -> None:
    seed_everything(seed)
    x, y = load_diabetes(return_X_y=True)
    data = TensorDataset(torch.tensor(scale(x), dtype=torch.float32), torch.tensor(scale(y), dtype=torch.float32))
    train, val = random_split(data, [360, 82])
    trainer = Trainer(max_epochs=8, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(
        Progression(mended),
        DataLoader(train, 30, shuffle=True, collate_fn=collate),
        DataLoader(val, 82, collate_fn=collate),
    )
