"""Separation of two tones: the loss is minus the signal-to-noise ratio (SI-SNR), far below 0 when all is well.

Source: https://lightning.ai/docs/torchmetrics/stable/audio/scale_invariant_signal_noise_ratio.html
Added: 2026-11-28. Rules changed because of it: none.
"""

import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torchmetrics.functional.audio import scale_invariant_signal_noise_ratio

DIAGNOSES = ()
PLACE = None
PRESET = "thorough"


class Tones(Dataset):
    def __init__(self, size: int) -> None:
        time = torch.arange(128)
        pitch, phase = torch.rand(size, 1) * 0.2 + 0.2, torch.rand(size, 1) * 6.28
        self.clean = torch.sin(time * pitch + phase)
        self.mixed = self.clean + torch.sin(time * (pitch + 0.9) + phase) + 0.1 * torch.randn(size, 128)

    def __len__(self):
        return len(self.clean)

    def __getitem__(self, i):
        return {"mixed": self.mixed[i], "clean": self.clean[i]}


class Separator(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv1d(1, 16, 9, padding=4),
            nn.PReLU(),
            nn.Conv1d(16, 16, 9, padding=4),
            nn.PReLU(),
            nn.Conv1d(16, 1, 9, padding=4),
        )

    def step(self, batch):
        estimate = self.net(batch["mixed"][:, None]).squeeze(1)
        return -scale_invariant_signal_noise_ratio(estimate, batch["clean"]).mean()

    def training_step(self, batch, batch_idx):
        return self.step(batch)

    def validation_step(self, batch, batch_idx):
        self.log("val_si_snr", -self.step(batch))

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=2e-3)


def main(mended: bool, seed: int) -> None:
    seed_everything(seed)
    trainer = Trainer(max_epochs=3, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(Separator(), DataLoader(Tones(800), 20, shuffle=True), DataLoader(Tones(100), 50))
