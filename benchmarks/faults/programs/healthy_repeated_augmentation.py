"""Each picture stands three times in a batch, augmented in another way each time, as timm's RepeatAugSampler does.

Source: https://github.com/huggingface/pytorch-image-models
Added: 2026-11-28. Rules changed because of it: none.
"""

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule, Trainer, seed_everything
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, Dataset

DIAGNOSES = ()
PLACE = None
PRESET = "thorough"


class Repeated(Dataset):
    def __init__(self, image: torch.Tensor, digit: torch.Tensor, repeats: int) -> None:
        self.image, self.digit, self.repeats = image, digit, repeats

    def __len__(self):
        return len(self.digit) * self.repeats

    def __getitem__(self, i):
        image = self.image[i // self.repeats]
        if self.repeats > 1:
            image = image.roll(int(torch.randint(-1, 2, ())), dims=2) + 0.1 * torch.randn_like(image)
        return image, self.digit[i // self.repeats]


class Net(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Conv2d(1, 16, 3), nn.BatchNorm2d(16), nn.ReLU(), nn.Flatten(), nn.Linear(576, 10))

    def training_step(self, batch, batch_idx):
        return F.cross_entropy(self.net(batch[0]), batch[1], label_smoothing=0.1)

    def validation_step(self, batch, batch_idx):
        self.log("val_acc", (self.net(batch[0]).argmax(1) == batch[1]).float().mean())

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=2e-3)


def main(mended: bool, seed: int) -> None:
    seed_everything(seed)
    digits = load_digits()
    order = torch.randperm(1797)
    image = torch.tensor(digits.images, dtype=torch.float32)[order, None] / 8 - 1
    digit = torch.tensor(digits.target)[order]
    train, val = Repeated(image[:1000], digit[:1000], 3), Repeated(image[1000:], digit[1000:], 1)
    trainer = Trainer(max_epochs=2, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(Net(), DataLoader(train, 48, shuffle=True), DataLoader(val, 100))
