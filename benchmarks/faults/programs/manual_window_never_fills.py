"""Manual accumulation counts batches of the epoch, the epoch is too short, and no weight ever moves.

Source: https://github.com/Lightning-AI/pytorch-lightning/issues/19216 (trains in a plain loop, not in the Trainer).
Added: 2026-11-28. Rules changed because of it: none.
"""

import torch
from lightning import LightningModule, Trainer, seed_everything
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

DIAGNOSES = ("parameter-not-updated", "accumulation-window")
PLACE = "step"
PRESET = "standard"


class Recurrent(LightningModule):
    """Predicts the next value of a noisy wave."""

    def __init__(self, window):
        super().__init__()
        self.automatic_optimization = False
        self.window = window
        self.gru, self.head = nn.GRU(1, 16, batch_first=True), nn.Linear(16, 1)

    def training_step(self, batch, batch_idx):
        (wave,) = batch
        guess = self.head(self.gru(wave[:, :-1])[0])
        loss = nn.functional.mse_loss(guess, wave[:, 1:])
        self.manual_backward(loss / self.window)
        if (batch_idx + 1) % self.window == 0:
            optimizer = self.optimizers()
            optimizer.step()
            optimizer.zero_grad()
        self.log("mse", loss)

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-2)


def main(mended, seed):
    seed_everything(seed)
    phase = torch.rand(300, 1) * 6.3
    wave = torch.sin(torch.arange(25) * 0.5 + phase) + 0.1 * torch.randn(300, 25)
    trainer = Trainer(max_epochs=5, accelerator="cpu", enable_progress_bar=False, enable_model_summary=False)
    trainer.fit(Recurrent(2 if mended else 16), DataLoader(TensorDataset(wave[..., None]), batch_size=30, shuffle=True))
