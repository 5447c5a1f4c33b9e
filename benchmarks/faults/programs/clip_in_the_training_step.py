"""Gradients are "clipped" and spike all the same: the call stands in ``training_step``, before backward.

Source: https://github.com/Lightning-AI/pytorch-lightning/issues/9694 (where and when gradients are clipped).
Added: 2026-11-28. Rules changed because of it: none.
"""

import torch
from lightning import LightningModule, Trainer, seed_everything
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

DIAGNOSES = ("clipping-before-backward",)
PLACE = "clip_grad_norm_"
PRESET = "standard"


class Sequence(LightningModule):
    def __init__(self, mended):
        super().__init__()
        self.mended = mended
        self.rnn, self.head = nn.RNN(2, 32, batch_first=True), nn.Linear(32, 1)

    def training_step(self, batch, batch_idx):
        x, y = batch
        loss = nn.functional.mse_loss(self.head(self.rnn(x)[0][:, -1]).squeeze(1), y)
        if not self.mended:
            torch.nn.utils.clip_grad_norm_(self.parameters(), 1.0)
        self.log("loss", loss)
        return loss

    def on_before_optimizer_step(self, optimizer):
        if self.mended:
            torch.nn.utils.clip_grad_norm_(self.parameters(), 1.0)

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-3)


def main(mended, seed):
    """The adding problem: which two numbers were marked?"""
    seed_everything(seed)
    value, mark = torch.rand(700, 20), torch.zeros(700, 20)
    rows = torch.arange(700)
    mark[rows, torch.randint(0, 10, (700,))] = 1
    mark[rows, torch.randint(10, 20, (700,))] = 1
    data = TensorDataset(torch.stack([value, mark], -1), (value * mark).sum(1))
    trainer = Trainer(max_epochs=4, accelerator="cpu", enable_progress_bar=False, enable_model_summary=False)
    trainer.fit(Sequence(mended), DataLoader(data, batch_size=35, shuffle=True))
