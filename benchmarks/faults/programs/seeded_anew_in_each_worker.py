"""Mixed noise for sounds, drawn in two workers that both call ``seed_everything`` with the seed of the configuration.

Source: https://github.com/xingyizhou/CenterNet/issues/233 and https://github.com/TorchDSP/torchsig/issues/343.
Added: 2026-11-30. Rules changed because of it: none.
"""

import random

import numpy as np
import torch
from lightning.pytorch import LightningDataModule, LightningModule, Trainer, seed_everything
from torch import nn
from torch.utils.data import DataLoader, Dataset

DIAGNOSES = ("worker-seeds-equal",)
PLACE = "make_deterministic"
PRESET = "standard"
AGAIN = "workers_of_one_seed"

SEED = 1234


def make_deterministic(worker_id):
    random.seed(SEED)
    np.random.seed(SEED)
    torch.manual_seed(SEED)


def spread(worker_id):
    random.seed(SEED + worker_id)
    np.random.seed(SEED + worker_id)
    torch.manual_seed(SEED + worker_id)


class NoisyTones(Dataset):
    def __init__(self, size):
        rng = np.random.default_rng(SEED)
        self.pitch = rng.integers(0, 4, size)
        self.phase = rng.uniform(0, 6, size)

    def __len__(self):
        return len(self.pitch)

    def __getitem__(self, i):
        tone = np.sin(np.arange(60) * (0.2 + 0.2 * self.pitch[i]) + self.phase[i])
        gain = random.uniform(0.7, 1.3)
        mixed = gain * tone + np.random.normal(0, 0.6, 60)
        return torch.from_numpy(mixed.astype(np.float32))[None], int(self.pitch[i])


class Tones(LightningDataModule):
    def __init__(self, mended):
        super().__init__()
        self.init = spread if mended else make_deterministic

    def train_dataloader(self):
        return DataLoader(
            NoisyTones(1200),
            batch_size=30,
            shuffle=True,
            num_workers=2,
            worker_init_fn=self.init,
            persistent_workers=True,
        )


class ToneNet(LightningModule):
    def __init__(self):
        super().__init__()
        self.conv = nn.Sequential(nn.Conv1d(1, 16, 9, stride=2), nn.ReLU(), nn.Conv1d(16, 16, 5), nn.ReLU())
        self.fc = nn.Linear(16, 4)

    def training_step(self, batch, batch_idx):
        loss = nn.functional.cross_entropy(self.fc(self.conv(batch[0]).amax(-1)), batch[1])
        self.log("loss", loss)
        return loss

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=2e-3)


def main(mended, seed):
    seed_everything(seed)
    trainer = Trainer(max_epochs=3, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(ToneNet(), datamodule=Tones(mended))
