"""A layer is frozen in epoch 2 and goes on moving: the optimizer still has its last gradient and its momentum.

Source: https://github.com/Lightning-AI/pytorch-lightning/issues/712 (parameters without ``requires_grad`` change).
Added: 2026-11-28. Rules changed because of it: none.
"""

import torch
import torch.nn.functional as F
from lightning import LightningModule, Trainer, seed_everything
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

DIAGNOSES = ("frozen-module-changed",)
PLACE = "first"
PRESET = "standard"


class Gradual(LightningModule):
    def __init__(self, mended):
        super().__init__()
        self.automatic_optimization = False
        self.mended = mended
        self.first, self.second = nn.Linear(64, 32), nn.Linear(32, 10)

    def on_train_epoch_start(self):
        if self.current_epoch == 2:
            self.first.requires_grad_(False)

    def training_step(self, batch, batch_idx):
        optimizer = self.optimizers()
        loss = F.cross_entropy(self.second(torch.relu(self.first(batch[0]))), batch[1])
        optimizer.zero_grad(set_to_none=self.mended)
        self.manual_backward(loss)
        optimizer.step()
        self.log("loss", loss)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)


def main(mended, seed):
    seed_everything(seed)
    digits = load_digits()
    data = TensorDataset(torch.tensor(digits.data, dtype=torch.float32) / 16, torch.tensor(digits.target))
    trainer = Trainer(max_epochs=4, accelerator="cpu", enable_progress_bar=False, enable_model_summary=False)
    trainer.fit(Gradual(mended), DataLoader(data, batch_size=60, shuffle=True))
