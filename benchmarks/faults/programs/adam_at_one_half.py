"""The loss jumps up and down by orders of magnitude: Adam got the rate that was right for SGD on another task.

Source: https://stackoverflow.com/questions/48385830 (a rate that is far too high).
Added: 2026-11-28. Rules changed because of it: none.
"""

import torch
from lightning import LightningModule, Trainer, seed_everything
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

DIAGNOSES = ("update-ratio-high", "diverging-loss", "exploding-gradient", "saturated-units", "dead-units")
PLACE = None
PRESET = "standard"


class Keypoints(LightningModule):
    """Finds the brightest point of a small image."""

    def __init__(self, rate):
        super().__init__()
        self.rate = rate
        self.net = nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(288, 32), nn.ReLU()
        )
        self.point = nn.Linear(32, 2)

    def training_step(self, batch, batch_idx):
        loss = nn.functional.mse_loss(self.point(self.net(batch[0])), batch[1])
        self.log("mse", loss)
        return loss

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=self.rate)


def main(mended, seed):
    seed_everything(seed)
    place = torch.randint(0, 12, (800, 2))
    image = 0.2 * torch.randn(800, 1, 12, 12)
    image[torch.arange(800), 0, place[:, 0], place[:, 1]] = 2
    data = TensorDataset(image, place / 5.5 - 1)
    trainer = Trainer(max_epochs=4, accelerator="cpu", enable_progress_bar=False, enable_model_summary=False)
    trainer.fit(Keypoints(1e-3 if mended else 0.5), DataLoader(data, batch_size=40, shuffle=True))
