"""Sorting short clips by their motion: the score of a clip depends on which other clips are in its batch.

Source: https://github.com/facebookresearch/sam2/issues/619 (frames are flattened over the batch, so that attention is
between tokens of different videos).
Added: 2026-11-30. Rules changed because of it: batch-leak (its place).
"""

import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from torch import nn
from torch.utils.data import DataLoader, Dataset

DIAGNOSES = ("batch-leak",)
PLACE = "frames_attend_across_videos.py:49"
PRESET = "standard"


class Clips(Dataset):
    """A bright dot that leaves the middle of eight pixels to the left, to the right or not at all."""

    def __init__(self, size):
        self.motion = torch.randint(3, (size,))
        start = torch.randint(3, 6, (size,))
        where = (start[:, None] + (self.motion - 1)[:, None] * torch.arange(5)) % 8
        self.clips = nn.functional.one_hot(where, 8).float() + 0.2 * torch.randn(size, 5, 8)

    def __len__(self):
        return len(self.clips)

    def __getitem__(self, i):
        return {"frames": self.clips[i], "motion": self.motion[i]}


class MotionClassifier(LightningModule):
    def __init__(self, mended):
        super().__init__()
        self.mended = mended
        self.encode = nn.Sequential(nn.Linear(8, 32), nn.GELU(), nn.Linear(32, 32))
        self.time = nn.Parameter(0.1 * torch.randn(5, 32))
        self.attend = nn.MultiheadAttention(32, 4, batch_first=True)
        self.head = nn.Linear(32, 3)

    def forward(self, frames):
        batch, length, pixels = frames.shape
        tokens = self.encode(frames.reshape(batch * length, pixels))  # the encoder sees single frames
        tokens = tokens + self.time.repeat(batch, 1)
        if self.mended:
            tokens = tokens.reshape(batch, length, -1)
        mixed, _ = self.attend(tokens, tokens, tokens)
        tokens = (tokens + mixed).reshape(batch, length, -1)
        return self.head(tokens.mean(1))

    def training_step(self, batch, batch_idx):
        loss = nn.functional.cross_entropy(self(batch["frames"]), batch["motion"])
        self.log("train/loss", loss)
        return loss

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=2e-3)


def main(mended, seed):
    seed_everything(seed)
    trainer = Trainer(max_epochs=3, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(MotionClassifier(mended), DataLoader(Clips(1280), batch_size=16, shuffle=True))
