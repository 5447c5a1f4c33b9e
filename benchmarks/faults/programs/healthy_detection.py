"""A one-box detector with torchvision-like targets: lists of dicts with boxes (xyxy) and labels.

Source: https://docs.pytorch.org/tutorials/intermediate/torchvision_tutorial.html
Added: 2026-11-28. Rules changed because of it: none.
"""

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule, Trainer, seed_everything
from torch import nn
from torch.utils.data import DataLoader, Dataset

DIAGNOSES = ()
PLACE = None
PRESET = "thorough"


class Scenes(Dataset):
    def __init__(self, size: int, offset: int = 0) -> None:
        self.size, self.offset = size, offset

    def __len__(self):
        return self.size

    def __getitem__(self, i):
        generator = torch.Generator().manual_seed(i + self.offset)
        kind = int(torch.randint(2, (), generator=generator))
        image = torch.randn(3, 32, 32, generator=generator) * 0.2
        x, y = torch.randint(0, 18, (2,), generator=generator).tolist()
        w, h = torch.randint(6, 13, (2,), generator=generator).tolist()
        image[kind, y : y + h, x : x + w] += 1.5
        return image, {"boxes": torch.tensor([[x, y, x + w, y + h]]).float(), "labels": torch.tensor([kind])}


def collate(samples):
    return tuple(zip(*samples, strict=True))


class Detector(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 16, 3, 2),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, 2),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(32 * 49, 64),
            nn.ReLU(),
        )
        self.box, self.kind = nn.Linear(64, 4), nn.Linear(64, 2)

    def step(self, batch):
        images, targets = batch
        h = self.body(torch.stack(images))
        boxes = torch.cat([t["boxes"] for t in targets]) / 32
        labels = torch.cat([t["labels"] for t in targets])
        return F.smooth_l1_loss(self.box(h), boxes, beta=0.1) + F.cross_entropy(self.kind(h), labels)

    def training_step(self, batch, batch_idx):
        return self.step(batch)

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", self.step(batch), batch_size=len(batch[0]))

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-3)


def main(mended: bool, seed: int) -> None:
    seed_everything(seed)
    trainer = Trainer(max_epochs=3, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    train = DataLoader(Scenes(640), 16, shuffle=True, collate_fn=collate)
    trainer.fit(Detector(), train, DataLoader(Scenes(96, 10_000), 16, collate_fn=collate))
