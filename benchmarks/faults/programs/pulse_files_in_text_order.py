"""Pulse rate from short recordings: the network answers with the mean, as 'pulse_10' is sorted before 'pulse_2'.

Source: https://stackoverflow.com/questions/4813061/non-alphanumeric-list-order-from-os-listdir
Added: 2026-11-30. Rules changed because of it: none.
Missed: told as `info`: of fewer than 1,000 steps, a run may not have begun to learn.
"""

import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

DIAGNOSES = ("no-better-than-trivial", "labels-unrelated-to-inputs")
PLACE = None
PRESET = "thorough"
AGAIN = "targets_shuffled_apart"


class PulseRate(LightningModule):
    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv1d(1, 16, 9, stride=2, padding=4),
            nn.BatchNorm1d(16),
            nn.ReLU(),
            nn.Conv1d(16, 24, 9, stride=2, padding=4),
            nn.BatchNorm1d(24),
            nn.ReLU(),
            nn.AdaptiveAvgPool1d(4),
            nn.Flatten(),
        )
        self.head = nn.Linear(96, 1)

    def forward(self, recording):
        return self.head(self.features(recording)).squeeze(1)

    def training_step(self, batch, batch_idx):
        recording, rate = batch
        loss = nn.functional.l1_loss(self(recording), rate)
        self.log("train_mae", loss)
        return loss

    def validation_step(self, batch, batch_idx):
        recording, rate = batch
        self.log("val_mae", nn.functional.l1_loss(self(recording), rate))

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=2e-3)


def load(count, mended):
    rates = 50 + 70 * torch.rand(count)
    time = torch.arange(96) / 16
    beats = torch.sin(6.28 * (time * rates.unsqueeze(1) / 60 + torch.rand(count, 1)))
    recordings = beats + 0.4 * torch.randn(count, 96)
    files = {f"pulse_{number}.npy": recording for number, recording in enumerate(recordings)}
    names = sorted(files, key=lambda name: int(name[6:-4])) if mended else sorted(files)
    inputs = torch.stack([files[name] for name in names]).unsqueeze(1)
    return TensorDataset(inputs, (rates - 85) / 20)


def main(mended, seed):
    seed_everything(seed)
    train, val = load(1600, mended), load(400, mended)
    trainer = Trainer(max_epochs=5, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(PulseRate(), DataLoader(train, batch_size=32, shuffle=True), DataLoader(val, batch_size=50))
