"""Clips of differing length come as a list; one of them is empty and its mean is NaN.

Source: https://github.com/Deci-AI/super-gradients/pull/982 (NaN where there is nothing to average).
Added: 2026-11-28. Rules changed because of it: none.
"""

import torch
import torch.nn.functional as F
from lightning import LightningModule, Trainer, seed_everything
from torch import nn
from torch.utils.data import DataLoader, Dataset

DIAGNOSES = ("nonfinite-activation", "nonfinite-loss")
PLACE = "mean"
PRESET = "standard"


class Clips(Dataset):
    def __init__(self, mended):
        self.labels = torch.randint(0, 4, (320,))
        self.clips = [torch.randn(int(n), 6) for n in torch.randint(2, 40, (320,))]
        for clip, label in zip(self.clips, self.labels, strict=True):
            clip[:, label] += 1
        if not mended:
            self.clips[101] = self.clips[101][:0]

    def __len__(self):
        return len(self.clips)

    def __getitem__(self, index):
        return self.clips[index], self.labels[index]


def collate(items):
    return [clip for clip, _ in items], torch.stack([label for _, label in items])


class Pool(nn.Module):
    def __init__(self):
        super().__init__()
        self.frame = nn.Sequential(nn.Linear(6, 32), nn.ReLU())

    def forward(self, clips):
        return torch.stack([self.frame(clip).mean(0) for clip in clips])


class Sounds(LightningModule):
    def __init__(self):
        super().__init__()
        self.pool, self.head = Pool(), nn.Linear(32, 4)

    def training_step(self, batch, batch_idx):
        clips, labels = batch
        loss = F.cross_entropy(self.head(self.pool(clips)), labels)
        self.log("loss", loss, batch_size=len(labels))
        return loss

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=3e-3)


def main(mended, seed):
    seed_everything(seed)
    loader = DataLoader(Clips(mended), batch_size=16, shuffle=True, collate_fn=collate)
    trainer = Trainer(max_epochs=3, accelerator="cpu", enable_progress_bar=False, enable_model_summary=False)
    trainer.fit(Sounds(), loader)
