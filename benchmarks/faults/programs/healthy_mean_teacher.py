"""A mean teacher: an EMA copy gives targets for unlabelled samples and is in no optimiser.

Source: https://arxiv.org/abs/1703.01780
Added: 2026-11-28. Rules changed because of it: none.
"""

import copy

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule, Trainer, seed_everything
from sklearn.datasets import make_moons
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

DIAGNOSES = ()
PLACE = None
PRESET = "thorough"


class MeanTeacher(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.student = nn.Sequential(nn.Linear(2, 48), nn.ReLU(), nn.Linear(48, 48), nn.ReLU(), nn.Linear(48, 2))
        self.teacher = copy.deepcopy(self.student).requires_grad_(False)

    def training_step(self, batch, batch_idx):
        x, y, known = batch
        with torch.no_grad():
            goal = self.teacher(x + 0.05 * torch.randn_like(x)).softmax(1)
        score = self.student(x + 0.05 * torch.randn_like(x))
        supervised = (F.cross_entropy(score, y, reduction="none") * known).sum() / known.sum().clamp(min=1)
        return supervised + F.mse_loss(score.softmax(1), goal)

    def on_train_batch_end(self, outputs, batch, batch_idx):
        for mine, theirs in zip(self.teacher.parameters(), self.student.parameters(), strict=True):
            mine.data.lerp_(theirs.data, 0.05)

    def validation_step(self, batch, batch_idx):
        self.log("teacher_acc", (self.teacher(batch[0]).argmax(1) == batch[1]).float().mean())

    def configure_optimizers(self):
        return torch.optim.Adam(self.student.parameters(), lr=3e-3)


def main(mended: bool, seed: int) -> None:
    seed_everything(seed)
    x, y = make_moons(2400, noise=0.1, random_state=seed)
    x, y = torch.tensor((x - x.mean(0)) / x.std(0), dtype=torch.float32), torch.tensor(y)
    known = (torch.rand(2000) < 0.2).float()
    train, val = TensorDataset(x[:2000], y[:2000], known), TensorDataset(x[2000:], y[2000:])
    trainer = Trainer(max_epochs=4, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(MeanTeacher(), DataLoader(train, 40, shuffle=True), DataLoader(val, 100))
