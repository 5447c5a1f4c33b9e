"""A hand-written batch norm trains well; the exported model gives NaN for everything.

Source: https://github.com/karpathy/makemore/issues/22 (variance of a batch of one goes into the running statistics).
Added: 2026-11-28. Rules changed because of it: nonfinite-buffer (buffers of one's own modules).
"""

import torch
from lightning import LightningModule, Trainer, seed_everything
from sklearn.datasets import load_wine
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

DIAGNOSES = ("nonfinite-buffer", "nonfinite-validation", "nonfinite-parameter")
PLACE = "running_var"
PRESET = "standard"


class MyBatchNorm(nn.Module):
    def __init__(self, size):
        super().__init__()
        self.gain, self.shift = nn.Parameter(torch.ones(size)), nn.Parameter(torch.zeros(size))
        self.register_buffer("running_mean", torch.zeros(size))
        self.register_buffer("running_var", torch.ones(size))

    def forward(self, x):
        if self.training:
            mean, var = x.mean(0), x.var(0, correction=0)
            with torch.no_grad():
                self.running_mean.lerp_(mean, 0.1)
                self.running_var.lerp_(x.var(0), 0.1)
        else:
            mean, var = self.running_mean, self.running_var
        return self.gain * (x - mean) / (var + 1e-5).sqrt() + self.shift


class Wines(LightningModule):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(13, 32), MyBatchNorm(32), nn.Tanh(), nn.Linear(32, 3))

    def training_step(self, batch, batch_idx):
        loss = nn.functional.cross_entropy(self.net(batch[0]), batch[1])
        self.log("loss", loss)
        return loss

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=5e-3)


def main(mended, seed):
    seed_everything(seed)
    table = load_wine()
    x = torch.tensor(table.data, dtype=torch.float32)
    data = TensorDataset((x - x.mean(0)) / x.std(0), torch.tensor(table.target))  # 178 = 3 * 59 + 1
    loader = DataLoader(data, batch_size=59, shuffle=True, drop_last=mended)
    trainer = Trainer(
        max_epochs=12, accelerator="cpu", log_every_n_steps=1, enable_progress_bar=False, enable_model_summary=False
    )
    trainer.fit(Wines(), loader)
