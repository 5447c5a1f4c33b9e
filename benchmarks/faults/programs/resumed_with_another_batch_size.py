"""The resumed run got a larger batch size on a larger machine, in the middle of an epoch.

Source: https://github.com/Lightning-AI/pytorch-lightning/issues/19764 (resuming from steps within an epoch).
Added: 2026-11-28. Rules changed because of it: none.
"""

import torch
import torch.nn.functional as F
from lightning import LightningModule, Trainer, seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_debugkit import ExactResume

DIAGNOSES = ("resume-not-exact",)
PLACE = "batch"
PRESET = "standard"


class Digits(LightningModule):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))

    def training_step(self, batch, batch_idx):
        loss = F.cross_entropy(self.net(batch[0]), batch[1])
        self.log("loss", loss)
        return loss

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.05, momentum=0.9)


def fit(data, size, path=None):
    keep = ModelCheckpoint(dirpath="kept", filename="{step}", every_n_train_steps=20, save_top_k=-1)
    options = {"enable_progress_bar": False, "enable_model_summary": False}
    trainer = Trainer(max_epochs=2, accelerator="cpu", callbacks=[keep, ExactResume()], **options)
    trainer.fit(Digits(), DataLoader(data, batch_size=size, shuffle=True), ckpt_path=path)


def main(mended, seed):
    seed_everything(seed)
    digits = load_digits()
    data = TensorDataset(torch.tensor(digits.data, dtype=torch.float32) / 16, torch.tensor(digits.target))
    fit(data, 30)
    seed_everything(seed)
    fit(data, 30 if mended else 50, "kept/step=20.ckpt")
