"""A run is killed and resumed in the middle of an epoch: samples are trained on twice, others never.

Source: https://github.com/Lightning-AI/pytorch-lightning/issues/18780 (resuming before the end of an epoch).
Added: 2026-11-28. Rules changed because of it: none.
"""

import torch
from lightning import LightningModule, Trainer, seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_debugkit import ExactResume

DIAGNOSES = ("resume-not-exact",)
PLACE = "batch"
PRESET = "standard"


class Stream(LightningModule):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 1))

    def training_step(self, batch, batch_idx):
        loss = nn.functional.mse_loss(self.net(batch[0]).squeeze(1), batch[1])
        self.log("loss", loss)
        return loss

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=2e-3)


def trainer(*callbacks):
    keep = ModelCheckpoint(dirpath="kept", filename="{step}", every_n_train_steps=13, save_top_k=-1)
    options = {"enable_progress_bar": False, "enable_model_summary": False}
    return Trainer(max_epochs=2, accelerator="cpu", callbacks=[keep, *callbacks], **options)


def main(mended, seed):
    seed_everything(seed)
    x = torch.randn(600, 8)
    data = TensorDataset(x, x[:, 0] - x[:, 1].abs())
    first = [ExactResume()] if mended else []  # was added after the first half of the run
    trainer(*first).fit(Stream(), DataLoader(data, batch_size=30, shuffle=True))
    seed_everything(seed)
    trainer(ExactResume()).fit(Stream(), DataLoader(data, batch_size=30, shuffle=True), ckpt_path="kept/step=13.ckpt")
