"""Mixed precision "trains" for hundreds of steps without changing a weight: every step is skipped.

Source: https://github.com/Lightning-AI/pytorch-lightning/issues/9694 (half precision and its scaler), with targets that
are too large for float16.
Added: 2026-11-28. Rules changed because of it: none.
Missed: `input-not-normalized` is named first, for the targets that float16 cannot hold; the diagnoses are not changed
after a run.
"""

import torch
from lightning import LightningModule, Trainer, seed_everything
from lightning.pytorch.plugins import MixedPrecision
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

DIAGNOSES = ("loss-scale-collapse", "nonfinite-gradient", "nonfinite-loss", "nonfinite-activation")
PLACE = None
PRESET = "standard"


class Counts(LightningModule):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 1))

    def training_step(self, batch, batch_idx):
        x, visits = batch
        loss = nn.functional.mse_loss(self.net(x).float(), visits)
        self.log("mse", loss)
        return loss

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-3)


def main(mended, seed):
    seed_everything(seed)
    x = torch.randn(900, 8)
    visits = 4_000_000 * torch.rand(900, 1) * (1 + x[:, :1].abs())
    if mended:
        visits = visits / 4_000_000
    precision = MixedPrecision("16-mixed", "cpu", scaler=torch.amp.GradScaler("cpu"))
    trainer = Trainer(
        max_epochs=3, accelerator="cpu", plugins=precision, enable_progress_bar=False, enable_model_summary=False
    )
    trainer.fit(Counts(), DataLoader(TensorDataset(x, visits), batch_size=20, shuffle=True))
