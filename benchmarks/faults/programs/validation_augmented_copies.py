"""Each picture was saved four times, flipped and shifted by a pixel, and the split was made afterwards: 99 % accuracy.

Source: https://github.com/rsarka34/RDLINet/issues/1 and https://github.com/stefyste/RIAWELC/issues/2 (augmentation or
cutting before the split).
Added: 2026-11-28. Rules changed because of it: none.
"""

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule, Trainer, seed_everything
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, random_split

DIAGNOSES = ("train-val-overlap",)
PLACE = None
PRESET = "standard"


class Net(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Conv2d(1, 16, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16 * 36, 10))

    def training_step(self, batch, batch_idx):
        return F.cross_entropy(self.net(batch[0]), batch[1])

    def validation_step(self, batch, batch_idx):
        self.log("val_acc", (self.net(batch[0]).argmax(1) == batch[1]).float().mean())

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-3)


def augmented(data: TensorDataset) -> TensorDataset:
    image, digit = data[:]
    copies = [image, image, image.roll(1, dims=3), image.roll(1, dims=2)]
    return TensorDataset(torch.cat(copies), digit.repeat(4))


def main(mended: bool, seed: int) -> None:
    seed_everything(seed)
    digits = load_digits()
    data = TensorDataset(
        torch.tensor(digits.images, dtype=torch.float32)[:500, None] / 16, torch.tensor(digits.target[:500])
    )
    if mended:
        train, val = random_split(data, [400, 100])
        train = augmented(TensorDataset(*data[train.indices]))
    else:
        train, val = random_split(augmented(data), [1600, 400])
    trainer = Trainer(max_epochs=2, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(Net(), DataLoader(train, 32, shuffle=True), DataLoader(val, 100))
