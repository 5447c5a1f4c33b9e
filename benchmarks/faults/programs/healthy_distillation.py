"""Knowledge distillation: KL divergence of softened logits beside cross-entropy, softmax of the teacher on purpose.

Source: https://arxiv.org/abs/1503.02531
Added: 2026-11-28. Rules changed because of it: none.
"""

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule, Trainer, seed_everything
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, random_split

DIAGNOSES = ()
PLACE = None
PRESET = "thorough"


def train_teacher(data) -> nn.Module:
    teacher = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
    optimizer = torch.optim.Adam(teacher.parameters(), lr=3e-3)
    for x, y in DataLoader(data, 64, shuffle=True):
        optimizer.zero_grad()
        F.cross_entropy(teacher(x), y).backward()
        optimizer.step()
    return teacher.eval().requires_grad_(False)


class Student(LightningModule):
    def __init__(self, teacher: nn.Module, temperature: float = 3.0) -> None:
        super().__init__()
        self.teacher, self.temperature = teacher, temperature
        self.net = nn.Sequential(nn.Linear(64, 24), nn.ReLU(), nn.Linear(24, 10))

    def training_step(self, batch, batch_idx):
        x, y = batch
        score, t = self.net(x), self.temperature
        with torch.no_grad():
            goal = (self.teacher(x) / t).softmax(1)
        soft = F.kl_div(F.log_softmax(score / t, dim=1), goal, reduction="batchmean") * t**2
        return 0.5 * F.cross_entropy(score, y) + 0.5 * soft

    def validation_step(self, batch, batch_idx):
        self.log("val_acc", (self.net(batch[0]).argmax(1) == batch[1]).float().mean())

    def configure_optimizers(self):
        return torch.optim.Adam(self.net.parameters(), lr=3e-3)


def main(mended: bool, seed: int) -> None:
    seed_everything(seed)
    x, y = load_digits(return_X_y=True)
    train, val = random_split(TensorDataset(torch.tensor(x / 16, dtype=torch.float32), torch.tensor(y)), [1500, 297])
    trainer = Trainer(max_epochs=4, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(Student(train_teacher(train)), DataLoader(train, 32, shuffle=True), DataLoader(val, 100))
