"""Spectrograms are computed into an array made beforehand; every sound is one note to the network.

Source: https://github.com/pytorch/vision/issues/589 (uniform images, "all zeros, from a faulty loading operation").
Added: 2026-11-30. Rules changed because of it: none.
"""

import numpy as np
import torch
from lightning.pytorch import LightningDataModule, LightningModule, Trainer, seed_everything
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

DIAGNOSES = ("constant-input",)
PLACE = None
PRESET = "standard"
AGAIN = "black_images"


def spectrogram(wave):
    frames = np.lib.stride_tricks.sliding_window_view(wave, 64)[::32] * np.hanning(64)
    return np.log1p(np.abs(np.fft.rfft(frames)))[:, :32].T


class Notes(LightningDataModule):
    def __init__(self, mended, seed):
        super().__init__()
        self.mended, self.rng = mended, np.random.default_rng(seed)

    def setup(self, stage):
        note = self.rng.integers(0, 6, 900)
        pitch = 0.05 * 1.3 ** note[:, None]
        waves = np.sin(2 * np.pi * pitch * np.arange(544) + self.rng.uniform(0, 6, (900, 1)))
        waves += 0.5 * self.rng.normal(size=waves.shape)
        spectra = np.zeros((900, 32, 16), dtype=np.float32)
        if self.mended:
            for i, wave in enumerate(waves):
                spectra[i] = spectrogram(wave)
        else:
            for image, wave in zip(spectra, waves, strict=True):
                image = spectrogram(wave)  # noqa: F841 - the fault
        self.data = TensorDataset(torch.from_numpy(spectra), torch.from_numpy(note))

    def train_dataloader(self):
        return DataLoader(self.data, batch_size=30, shuffle=True)


class NoteNet(LightningModule):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv1d(32, 24, 3), nn.LeakyReLU(), nn.Conv1d(24, 24, 3), nn.LeakyReLU(), nn.AdaptiveAvgPool1d(1)
        )
        self.head = nn.Linear(24, 6)

    def training_step(self, batch, batch_idx):
        spectrum, note = batch
        loss = nn.functional.cross_entropy(self.head(self.body(spectrum).squeeze(-1)), note)
        self.log("loss", loss)
        return loss

    def configure_optimizers(self):
        return torch.optim.RMSprop(self.parameters(), lr=1e-3)


def main(mended, seed):
    seed_everything(seed)
    trainer = Trainer(max_epochs=3, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(NoteNet(), datamodule=Notes(mended, seed))
