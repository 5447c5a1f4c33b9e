"""BYOL on digits: no negatives, a target network by moving average, a loss of minus the cosine similarity.

Source: https://arxiv.org/abs/2006.07733
Added: 2026-11-28. Rules changed because of it: none.
"""

import copy

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule, Trainer, seed_everything
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader

DIAGNOSES = ()
PLACE = None
PRESET = "thorough"


class BYOL(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.online = nn.Sequential(
            nn.Conv2d(1, 16, 3), nn.BatchNorm2d(16), nn.ReLU(), nn.Flatten(), nn.Linear(576, 48), nn.BatchNorm1d(48)
        )
        self.predictor = nn.Sequential(nn.Linear(48, 48), nn.BatchNorm1d(48), nn.ReLU(), nn.Linear(48, 48))
        self.target = copy.deepcopy(self.online).requires_grad_(False)

    def view(self, image):
        return image.roll(int(torch.randint(-1, 2, ())), dims=3) + 0.15 * torch.randn_like(image)

    def training_step(self, image, batch_idx):
        a, b = self.view(image), self.view(image)
        with torch.no_grad():
            goals = self.target(b), self.target(a)
        pairs = zip((a, b), goals, strict=True)
        loss = -sum(F.cosine_similarity(self.predictor(self.online(x)), goal).mean() for x, goal in pairs)
        self.log("similarity", -loss / 2)
        return loss

    def on_before_zero_grad(self, optimizer):
        for mine, theirs in zip(self.target.parameters(), self.online.parameters(), strict=True):
            mine.data.lerp_(theirs.data, 0.02)

    def configure_optimizers(self):
        return torch.optim.Adam([*self.online.parameters(), *self.predictor.parameters()], lr=1e-3)


def main(mended: bool, seed: int) -> None:
    seed_everything(seed)
    image = torch.tensor(load_digits().images, dtype=torch.float32)[:, None] / 8 - 1
    trainer = Trainer(max_epochs=4, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(BYOL(), DataLoader(list(image), 64, shuffle=True, drop_last=True))
