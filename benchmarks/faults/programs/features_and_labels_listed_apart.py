"""Features and labels lie in two folders; one is listed by number, the other by name. The classifier learns nothing.

Source: https://github.com/chuanyangjin/fast-DiT/issues/4 (feature files and label files in different order).
Added: 2026-11-30. Rules changed because of it: none.
"""

from pathlib import Path

import numpy as np
import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from sklearn.datasets import make_blobs
from torch import nn
from torch.utils.data import DataLoader, Dataset

DIAGNOSES = ("labels-unrelated-to-inputs",)
PLACE = None
PRESET = "standard"
AGAIN = "labels_sorted_apart"


def write(seed):
    """Stands for an extraction that ran last week."""
    x, y = make_blobs(1200, 12, centers=5, cluster_std=3.0, random_state=seed)
    for name in ("features", "labels"):
        Path(name).mkdir(exist_ok=True)
    for i, (features, label) in enumerate(zip(x.astype(np.float32) / 6, y, strict=True)):
        np.save(f"features/{i}.npy", features)
        np.save(f"labels/{i}.npy", label)


class Extracted(Dataset):
    def __init__(self, mended):
        self.features = sorted(Path("features").iterdir(), key=lambda path: int(path.stem))
        self.labels = sorted(Path("labels").iterdir(), key=(lambda path: int(path.stem)) if mended else None)

    def __len__(self):
        return len(self.features)

    def __getitem__(self, i):
        return torch.from_numpy(np.load(self.features[i])), int(np.load(self.labels[i]))


class Probe(LightningModule):
    def __init__(self):
        super().__init__()
        self.probe = nn.Sequential(nn.LayerNorm(12), nn.Linear(12, 40), nn.SiLU(), nn.Linear(40, 5))

    def training_step(self, batch, batch_idx):
        loss = nn.functional.cross_entropy(self.probe(batch[0]), batch[1])
        self.log("loss", loss)
        return loss

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=2e-3)


def main(mended, seed):
    seed_everything(seed)
    write(seed)
    trainer = Trainer(max_epochs=4, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(Probe(), DataLoader(Extracted(mended), batch_size=40, shuffle=True))
