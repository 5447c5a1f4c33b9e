"""Bad batches are skipped as advised, the training loss is fine, and every validation is NaN.

Source: https://github.com/pytorch/pytorch/issues/1206 (running statistics are NaN, training is fine), and
https://github.com/Lightning-AI/pytorch-lightning/issues/7544 (returning None where the loss is NaN).
Added: 2026-11-28. Rules changed because of it: none.
"""

import torch
import torch.nn.functional as F
from lightning import LightningModule, Trainer, seed_everything
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

DIAGNOSES = ("nonfinite-buffer", "nonfinite-input", "nonfinite-validation")
PLACE = "running"
PRESET = "standard"


class Spectra(LightningModule):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv1d(1, 12, 7, padding=3),
            nn.BatchNorm1d(12),
            nn.ReLU(),
            nn.AdaptiveAvgPool1d(8),
            nn.Flatten(),
            nn.Linear(96, 3),
        )

    def training_step(self, batch, batch_idx):
        loss = F.cross_entropy(self.net(batch[0]), batch[1])
        if torch.isnan(loss):
            return None
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", F.cross_entropy(self.net(batch[0]), batch[1]))

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=2e-3)


def main(mended, seed):
    seed_everything(seed)
    kind = torch.randint(0, 3, (700,))
    grid = torch.linspace(0, 12, 80)
    spectra = torch.sin(grid * (1 + kind[:, None])) + 0.5 * torch.randn(700, 80)
    if not mended:
        spectra[123, 40] = float("nan")
    data = TensorDataset(spectra[:, None], kind)
    train = DataLoader(torch.utils.data.Subset(data, range(600)), batch_size=40, shuffle=True)
    val = DataLoader(torch.utils.data.Subset(data, range(600, 700)), batch_size=50)
    trainer = Trainer(max_epochs=3, accelerator="cpu", enable_progress_bar=False, enable_model_summary=False)
    trainer.fit(Spectra(), train, val)
