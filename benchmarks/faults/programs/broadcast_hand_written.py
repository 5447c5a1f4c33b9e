"""Linear data, noise-free: the error goes down to the variance of the target and stays there.

Source: https://github.com/pytorch/pytorch/issues/16045 (shapes [n, 1] and [n] in a squared error).
Added: 2026-11-28. Rules changed because of it: none.
"""

import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from sklearn.datasets import make_regression
from torch import nn
from torch.utils.data import DataLoader, Dataset

DIAGNOSES = ("shape-broadcast",)
PLACE = "broadcast_hand_written.py:41"
PRESET = "standard"


class Houses(Dataset):
    def __init__(self, seed: int) -> None:
        x, y = make_regression(1500, 12, n_informative=8, random_state=seed)
        self.x = x.astype("float32")
        self.y = ((y - y.mean()) / y.std()).astype("float32")

    def __len__(self):
        return len(self.y)

    def __getitem__(self, i):
        return {"features": self.x[i], "price": self.y[i]}


class HuberModel(LightningModule):
    def __init__(self, mended: bool) -> None:
        super().__init__()
        self.mended = mended
        self.net = nn.Sequential(nn.Linear(12, 48), nn.ReLU(), nn.Linear(48, 1))

    def training_step(self, batch, batch_idx):
        prediction = self.net(batch["features"])
        if self.mended:
            prediction = prediction.squeeze(-1)
        error = prediction - batch["price"]
        small = error.abs().clamp(max=1.0)
        return (0.5 * small**2 + (error.abs() - small)).mean()

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=3e-3)


def main(mended: bool, seed: int) -> None:
    seed_everything(seed)
    trainer = Trainer(max_epochs=3, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(HuberModel(mended), DataLoader(Houses(seed), batch_size=25, shuffle=True))
