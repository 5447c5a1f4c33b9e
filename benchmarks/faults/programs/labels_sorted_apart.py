"""File names were sorted, the label file was not: training accuracy climbs slowly, validation stays at chance.

Source: https://github.com/ZhengyuZhao/Targeted-Transfer/issues/4 and
https://github.com/NoahVl/Explaining-In-Style-Reproducibility-Study/issues/9 (images and labels in different order).
Added: 2026-11-28. Rules changed because of it: labels-unrelated-to-inputs.
"""

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule, Trainer, seed_everything
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, Dataset, random_split

DIAGNOSES = ("labels-unrelated-to-inputs",)
PLACE = None
PRESET = "standard"


class Faces(Dataset):
    def __init__(self, mended: bool) -> None:
        digits = load_digits()
        names = [f"image_{i}.png" for i in range(len(digits.target))]
        label_of = dict(zip(names, digits.target.tolist(), strict=True))
        image_of = dict(zip(names, digits.images, strict=True))
        self.images = [torch.tensor(image_of[n], dtype=torch.float32)[None] / 16 for n in names]
        self.labels = [label_of[n] for n in (names if mended else sorted(names))]

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, i):
        return self.images[i], self.labels[i]


class FaceNet(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(1, 16, 3), nn.ReLU(), nn.Conv2d(16, 16, 3), nn.ReLU(), nn.Flatten(), nn.Linear(256, 10)
        )

    def training_step(self, batch, batch_idx):
        return F.cross_entropy(self.net(batch[0]), batch[1])

    def validation_step(self, batch, batch_idx):
        self.log("val_acc", (self.net(batch[0]).argmax(1) == batch[1]).float().mean())

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-3)


def main(mended: bool, seed: int) -> None:
    seed_everything(seed)
    train, val = random_split(Faces(mended), [1497, 300])
    trainer = Trainer(max_epochs=3, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(FaceNet(), DataLoader(train, 48, shuffle=True), DataLoader(val, 100))
