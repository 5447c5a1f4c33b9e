"""ToTensor scales bytes, but the validation reader gives floats of 0..255, which it leaves alone.

Source: https://github.com/CSAILVision/GazeCapture/issues/32 and https://github.com/MichalBusta/DeepTextSpotter/issues/19
(images are normalised differently in training and validation).
Added: 2026-11-28. Rules changed because of it: none.
"""

import numpy as np
import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule, Trainer, seed_everything
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, Dataset

DIAGNOSES = ("input-shift",)
PLACE = None
PRESET = "standard"


def to_tensor(image: np.ndarray) -> torch.Tensor:
    """As torchvision's ToTensor: only bytes are divided by 255."""
    tensor = torch.from_numpy(image.copy())[None]
    return tensor.float() / 255 if tensor.dtype == torch.uint8 else tensor.float()


class Files(Dataset):
    def __init__(self, part: slice, dtype: type) -> None:
        digits = load_digits()
        self.images = (digits.images[part] * 15.9).astype(dtype)
        self.labels = digits.target[part]

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, i):
        return to_tensor(self.images[i]), int(self.labels[i])


class Net(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Conv2d(1, 12, 3), nn.ELU(), nn.Flatten(), nn.Linear(12 * 36, 10))

    def training_step(self, batch, batch_idx):
        return F.cross_entropy(self.net(batch[0]), batch[1])

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", F.cross_entropy(self.net(batch[0]), batch[1]))

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-3)


def main(mended: bool, seed: int) -> None:
    seed_everything(seed)
    train, val = Files(slice(0, 1400), np.uint8), Files(slice(1400, None), np.uint8 if mended else np.float64)
    trainer = Trainer(max_epochs=3, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(Net(), DataLoader(train, 40, shuffle=True), DataLoader(val, 100))
