"""With mixed precision the clipping is far too strong: it measures gradients that are still multiplied by the scale.

Source: https://github.com/Lightning-AI/pytorch-lightning/issues/9694 (clipping of scaled gradients).
Added: 2026-11-28. Rules changed because of it: none.
"""

import torch
import torch.nn.functional as F
from lightning import LightningModule, Trainer, seed_everything
from lightning.pytorch.plugins import MixedPrecision
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

DIAGNOSES = ("clipping-scaled-gradients",)
PLACE = "scale"
PRESET = "standard"


class Mixed(LightningModule):
    def __init__(self, mended):
        super().__init__()
        self.mended = mended
        self.net = nn.Sequential(nn.Linear(64, 48), nn.ReLU(), nn.Linear(48, 10))

    def training_step(self, batch, batch_idx):
        loss = F.cross_entropy(self.net(batch[0]).float(), batch[1])
        self.log("loss", loss)
        return loss

    def on_after_backward(self):
        if not self.mended:  # the scaler divides later
            torch.nn.utils.clip_grad_norm_(self.parameters(), 1.0)

    def on_before_optimizer_step(self, optimizer):
        if self.mended:
            torch.nn.utils.clip_grad_norm_(self.parameters(), 1.0)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def main(mended, seed):
    seed_everything(seed)
    digits = load_digits()
    data = TensorDataset(torch.tensor(digits.data, dtype=torch.float32) / 16, torch.tensor(digits.target))
    precision = MixedPrecision("16-mixed", "cpu", scaler=torch.amp.GradScaler("cpu"))
    trainer = Trainer(
        max_epochs=3, accelerator="cpu", plugins=precision, enable_progress_bar=False, enable_model_summary=False
    )
    trainer.fit(Mixed(mended), DataLoader(data, batch_size=50, shuffle=True))
