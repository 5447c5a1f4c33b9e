"""A frozen teacher gives other answers at the end of the run than at its start.

Source: https://github.com/open-mmlab/mmpretrain/issues/702 (a frozen stage changes; TrainCheck).
Added: 2026-11-28. Rules changed because of it: none.
"""

import torch
import torch.nn.functional as F
from lightning import LightningModule, Trainer, seed_everything
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

DIAGNOSES = ("frozen-module-changed",)
PLACE = "teacher"
PRESET = "standard"


def net(width):
    return nn.Sequential(
        nn.Conv1d(2, width, 5, padding=2), nn.BatchNorm1d(width), nn.ReLU(), nn.Flatten(), nn.Linear(width * 24, 4)
    )


class Distil(LightningModule):
    def __init__(self, mended):
        super().__init__()
        self.mended = mended
        self.teacher, self.student = net(24), net(6)
        self.teacher.requires_grad_(False)

    def on_train_epoch_start(self):
        if self.mended:
            self.teacher.eval()

    def training_step(self, batch, batch_idx):
        (x,) = batch
        with torch.no_grad():
            wanted = self.teacher(x).softmax(1)
        loss = F.kl_div(self.student(x).log_softmax(1), wanted, reduction="batchmean")
        self.log("kl", loss)
        return loss

    def configure_optimizers(self):
        return torch.optim.Adam(self.student.parameters(), lr=2e-3)


def main(mended, seed):
    seed_everything(seed)
    x = torch.randn(800, 2, 24).cumsum(-1) * 0.5
    trainer = Trainer(max_epochs=3, accelerator="cpu", enable_progress_bar=False, enable_model_summary=False)
    trainer.fit(Distil(mended), DataLoader(TensorDataset(x), batch_size=40, shuffle=True))
