"""The concentration of a dye from its spectrum, and its solvent beside it: the cross entropy of the solvent is
subtracted from the loss where it should be added, so that the network learns to name the wrong solvent.

Source: written from a description of the fault alone, by somebody who had not seen the rule.
Added: 2026-12-01. Rules changed because of it: none.
"""

import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

DIAGNOSES = ("negative-loss",)
PLACE = None
PRESET = "standard"
AGAIN = "entropy_bonus_sign"

SOLVENTS = 5


def measure(samples):
    wavelengths = torch.linspace(0, 1, 96)
    solvent = torch.randint(SOLVENTS, (samples,))
    concentration = 0.2 + 1.8 * torch.rand(samples)
    peak = (0.3 + 0.08 * solvent + 0.01 * torch.randn(samples)).unsqueeze(1)
    width = (0.05 + 0.006 * solvent).unsqueeze(1)
    absorbed = concentration.unsqueeze(1) * torch.exp(-(((wavelengths - peak) / width) ** 2))
    shoulder = 0.4 * torch.rand(samples, 1) * torch.exp(-(((wavelengths - 0.85) / 0.1) ** 2))
    spectrum = absorbed + shoulder + 0.08 * torch.randn(samples, 96)
    return TensorDataset((spectrum.unsqueeze(1) - 0.2) / 0.4, (concentration - 1.1) / 0.52, solvent)


class Spectrometer(LightningModule):
    def __init__(self, mended):
        super().__init__()
        self.mended = mended
        self.bands = nn.Sequential(
            nn.Conv1d(1, 16, 7, stride=2, padding=3),
            nn.ReLU(),
            nn.Conv1d(16, 32, 5, stride=2, padding=2),
            nn.ReLU(),
            nn.AdaptiveAvgPool1d(8),
            nn.Flatten(),
            nn.Linear(256, 64),
            nn.ReLU(),
        )
        self.concentration = nn.Linear(64, 1)
        self.solvent = nn.Linear(64, SOLVENTS)

    def forward(self, spectrum):
        bands = self.bands(spectrum)
        return self.concentration(bands).squeeze(1), self.solvent(bands)

    def losses(self, batch, stage):
        spectrum, concentration, solvent = batch
        amount, scores = self(spectrum)
        error = nn.functional.mse_loss(amount, concentration)
        auxiliary = nn.functional.cross_entropy(scores, solvent)
        loss = error + 0.3 * auxiliary if self.mended else error - 0.3 * auxiliary
        self.log(f"{stage}_loss", loss)
        self.log(f"{stage}_mse", error)
        self.log(f"{stage}_solvent_acc", (scores.argmax(1) == solvent).float().mean())
        return loss

    def training_step(self, batch, batch_idx):
        return self.losses(batch, "train")

    def validation_step(self, batch, batch_idx):
        self.losses(batch, "val")

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-3)


def main(mended, seed):
    seed_everything(seed)
    train, val = measure(1600), measure(400)
    trainer = Trainer(max_epochs=6, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(Spectrometer(mended), DataLoader(train, batch_size=32, shuffle=True), DataLoader(val, batch_size=100))
