"""Validation is at chance for the whole run although training goes well: the average of weights never began.

Source: https://github.com/Lightning-AI/pytorch-lightning/issues/21724 (an average that has not begun is validated).
Added: 2026-11-28. Rules changed because of it: none.
"""

import copy

import torch
import torch.nn.functional as F
from lightning import LightningModule, Trainer, seed_everything
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

DIAGNOSES = ("untrained-weights-validated",)
PLACE = None
PRESET = "standard"


class Averaged(LightningModule):
    def __init__(self, begin):
        super().__init__()
        self.begin = begin
        self.net = nn.Sequential(nn.Linear(64, 40), nn.ReLU(), nn.Linear(40, 10))
        self.average = [p.detach().clone() for p in self.net.parameters()]

    def on_train_batch_end(self, outputs, batch, batch_idx):
        if self.global_step >= self.begin:
            torch._foreach_lerp_(self.average, [p.detach() for p in self.net.parameters()], 0.1)

    def on_validation_start(self):
        self.kept = copy.deepcopy(self.net.state_dict())
        with torch.no_grad():
            for p, mean in zip(self.net.parameters(), self.average, strict=True):
                p.copy_(mean)

    def on_validation_end(self):
        self.net.load_state_dict(self.kept)

    def training_step(self, batch, batch_idx):
        loss = F.cross_entropy(self.net(batch[0]), batch[1])
        self.log("loss", loss)
        return loss

    def validation_step(self, batch, batch_idx):
        self.log("val_acc", (self.net(batch[0]).argmax(1) == batch[1]).float().mean())

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=2e-3)


def main(mended, seed):
    seed_everything(seed)
    digits = load_digits()
    x, y = torch.tensor(digits.data, dtype=torch.float32) / 16, torch.tensor(digits.target)
    train = DataLoader(TensorDataset(x[:1400], y[:1400]), batch_size=50, shuffle=True)
    val = DataLoader(TensorDataset(x[1400:], y[1400:]), batch_size=100)
    trainer = Trainer(max_epochs=4, accelerator="cpu", enable_progress_bar=False, enable_model_summary=False)
    trainer.fit(Averaged(0 if mended else 2000), train, val)  # 2000 was right for the large data set
