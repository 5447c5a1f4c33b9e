"""The rate should decay by epoch, and the learning-rate curve is flat.

Source: https://github.com/voicepaw/so-vits-svc-fork/pull/291 (manual optimization, nobody steps the schedulers).
Added: 2026-11-28. Rules changed because of it: none.
"""

import torch
from lightning import LightningModule, Trainer, seed_everything
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

DIAGNOSES = ("scheduler-never-stepped",)
PLACE = "ExponentialLR"
PRESET = "standard"


class Denoiser(LightningModule):
    def __init__(self, mended):
        super().__init__()
        self.automatic_optimization = False
        self.mended = mended
        self.net = nn.Sequential(nn.Linear(64, 80), nn.ReLU(), nn.Linear(80, 64))

    def training_step(self, batch, batch_idx):
        (clean,) = batch
        optimizer = self.optimizers()
        loss = (self.net(clean + 0.2 * torch.randn_like(clean)) - clean).square().mean()
        optimizer.zero_grad()
        self.manual_backward(loss)
        optimizer.step()
        self.log("loss", loss)

    def on_train_epoch_end(self):
        if self.mended:
            self.lr_schedulers().step()

    def configure_optimizers(self):
        optimizer = torch.optim.Adam(self.parameters(), lr=2e-3)
        return [optimizer], [torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.7)]


def main(mended, seed):
    seed_everything(seed)
    data = TensorDataset(torch.tensor(load_digits().data, dtype=torch.float32) / 16)
    trainer = Trainer(max_epochs=5, accelerator="cpu", enable_progress_bar=False, enable_model_summary=False)
    trainer.fit(Denoiser(mended), DataLoader(data, batch_size=60, shuffle=True))
