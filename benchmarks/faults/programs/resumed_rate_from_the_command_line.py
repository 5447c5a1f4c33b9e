"""``--lr 3e-4`` on resuming has no effect; the mended program edits the checkpoint as it is loaded.

Source: https://github.com/Lightning-AI/pytorch-lightning/issues/4044 (another rate than the checkpoint's).
Added: 2026-11-28, after learning-rate-restored was changed and without sight of it. Rules changed because of it: none.
"""

import torch
import torch.nn.functional as F
from lightning import LightningModule, Trainer, seed_everything
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

DIAGNOSES = ("learning-rate-restored",)
PLACE = "0.0003"
PRESET = "standard"


class Digits(LightningModule):
    def __init__(self, lr, mended):
        super().__init__()
        self.lr, self.mended = lr, mended
        self.net = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))

    def training_step(self, batch, batch_idx):
        loss = F.cross_entropy(self.net(batch[0]), batch[1])
        self.log("loss", loss)
        return loss

    def on_load_checkpoint(self, checkpoint):
        if self.mended:
            for state in checkpoint["optimizer_states"]:
                for group in state["param_groups"]:
                    group["lr"] = self.lr

    def configure_optimizers(self):
        return torch.optim.AdamW(
            [{"params": self.net[0].parameters()}, {"params": self.net[2].parameters()}], lr=self.lr
        )


def main(mended, seed):
    seed_everything(seed)
    digits = load_digits()
    data = TensorDataset(torch.tensor(digits.data, dtype=torch.float32) / 16, torch.tensor(digits.target))
    options = {"accelerator": "cpu", "enable_progress_bar": False, "enable_model_summary": False}
    first = Trainer(max_epochs=2, **options)
    first.fit(Digits(3e-3, mended), DataLoader(data, batch_size=60, shuffle=True))
    first.save_checkpoint("first.ckpt")
    second = Trainer(max_epochs=4, **options)
    second.fit(Digits(3e-4, mended), DataLoader(data, batch_size=60, shuffle=True), ckpt_path="first.ckpt")
