"""Segmentation with MONAI's DiceCELoss on three classes and one-hot conversion.

Source: https://docs.monai.io/en/stable/losses.html
Added: 2026-11-28. Rules changed because of it: none.
"""

import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from torch import nn
from torch.utils.data import DataLoader, Dataset

DIAGNOSES = ()
PLACE = None
PRESET = "thorough"


class Organs(Dataset):
    def __init__(self, size: int) -> None:
        self.image, self.label = torch.randn(size, 1, 20, 20) * 0.4, torch.zeros(size, 1, 20, 20)
        for i in range(size):
            for organ in (1, 2):
                row, column = torch.randint(0, 13, (2,)).tolist()
                self.image[i, 0, row : row + 6, column : column + 6] = organ * 1.5 - 0.7 + 0.3 * torch.randn(6, 6)
                self.label[i, 0, row : row + 6, column : column + 6] = organ

    def __len__(self):
        return len(self.image)

    def __getitem__(self, i):
        return {"image": self.image[i], "label": self.label[i]}


class Segmenter(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        from monai.losses import DiceCELoss

        self.net = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1),
            nn.InstanceNorm2d(16),
            nn.PReLU(),
            nn.Conv2d(16, 16, 3, padding=1),
            nn.PReLU(),
        )
        self.out = nn.Conv2d(16, 3, 1)
        self.loss = DiceCELoss(to_onehot_y=True, softmax=True)

    def training_step(self, batch, batch_idx):
        return self.loss(self.out(self.net(batch["image"])), batch["label"])

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", self.loss(self.out(self.net(batch["image"])), batch["label"]))

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=3e-3)


def main(mended: bool, seed: int) -> None:
    try:
        import monai  # noqa: F401 - whether it is there is all that is asked
    except ImportError:
        raise SystemExit("skipped: monai is not installed") from None
    seed_everything(seed)
    trainer = Trainer(max_epochs=3, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(Segmenter(), DataLoader(Organs(400), 16, shuffle=True), DataLoader(Organs(60), 20))
