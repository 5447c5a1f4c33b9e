"""A contrastive model of sounds gets NaN weights when a clip of silence comes by.

Source: https://discuss.pytorch.org/t/94875 (a root at 0 in the backward pass).
Added: 2026-11-28. Rules changed because of it: none.
"""

import torch
import torch.nn.functional as F
from lightning import LightningModule, Trainer, seed_everything
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

DIAGNOSES = ("nonfinite-activation", "nonfinite-loss", "nonfinite-gradient")
PLACE = "norm"
PRESET = "standard"


class Unit(nn.Module):
    def __init__(self, mended):
        super().__init__()
        self.mended = mended

    def forward(self, x):
        if self.mended:
            return F.normalize(x, dim=1)
        return x / x.norm(dim=1, keepdim=True)


class Contrast(LightningModule):
    def __init__(self, mended):
        super().__init__()
        self.encode = nn.Sequential(nn.Conv1d(1, 16, 9, stride=4, bias=False), nn.ReLU(), nn.Flatten(), Unit(mended))
        self.temperature = 0.2

    def training_step(self, batch, batch_idx):
        clip, copy = batch
        one, two = self.encode(clip), self.encode(copy)
        loss = F.cross_entropy(one @ two.T / self.temperature, torch.arange(len(one)))
        self.log("info_nce", loss)
        return loss

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-3)


def main(mended, seed):
    seed_everything(seed)
    clip = torch.randn(400, 1, 64)
    copy = clip * (0.8 + 0.4 * torch.rand(400, 1, 1)) + 0.05 * torch.randn(400, 1, 64)
    clip[150], copy[150] = 0, 0
    loader = DataLoader(TensorDataset(clip, copy), batch_size=20, shuffle=True)
    trainer = Trainer(max_epochs=3, accelerator="cpu", enable_progress_bar=False, enable_model_summary=False)
    trainer.fit(Contrast(mended), loader)
