"""Four fabrics from colour photographs with a small transformer: all right in training, half of them in validation.

Source: https://github.com/wangkuiyi/gotorch/pull/365 (the transforms of validation differ from those of training).
Added: 2026-11-30. Rules changed because of it: none.
"""

import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from torch import nn
from torch.utils.data import DataLoader, Dataset

DIAGNOSES = ("input-shift",)
PLACE = None
PRESET = "standard"
AGAIN = "validation_transform_lacks_normalize"


class Normalize:
    def __init__(self, mean, std):
        self.mean = torch.tensor(mean).view(3, 1, 1)
        self.std = torch.tensor(std).view(3, 1, 1)

    def __call__(self, photograph):
        return (photograph - self.mean) / self.std


class Fabrics(Dataset):
    def __init__(self, fabrics, transform=None):
        self.fabrics = fabrics
        self.transform = transform
        base = torch.tensor([[150, 95, 60], [140, 85, 75], [160, 90, 65], [145, 100, 70]])[fabrics].view(-1, 3, 1, 1)
        threads = torch.sin(torch.arange(16) * (0.6 + 0.5 * fabrics.view(-1, 1)) + 6.28 * torch.rand(len(fabrics), 1))
        pattern = torch.where((fabrics % 2 == 0).view(-1, 1, 1), threads.unsqueeze(1), threads.unsqueeze(2))
        noise = 22 * torch.randn(len(fabrics), 3, 16, 16)
        self.photographs = (base + 25 * pattern.unsqueeze(1) + noise).clamp(0, 255).byte()

    def __len__(self):
        return len(self.fabrics)

    def __getitem__(self, index):
        photograph = self.photographs[index].float()
        if self.transform is not None:
            photograph = self.transform(photograph)
        return photograph, self.fabrics[index]


class PatchTransformer(LightningModule):
    def __init__(self):
        super().__init__()
        self.patches = nn.Conv2d(3, 32, 4, stride=4)
        self.positions = nn.Parameter(0.02 * torch.randn(16, 32))
        self.block = nn.TransformerEncoderLayer(32, 4, 64, dropout=0.0, batch_first=True, norm_first=True)
        self.classify = nn.Linear(32, 4)

    def forward(self, photograph):
        tokens = self.patches(photograph).flatten(2).transpose(1, 2) + self.positions
        return self.classify(self.block(tokens).mean(1))

    def training_step(self, batch, batch_idx):
        photograph, fabric = batch
        output = self(photograph)
        loss = nn.functional.cross_entropy(output, fabric)
        self.log("train_loss", loss)
        self.log("train_acc", (output.argmax(1) == fabric).float().mean())
        return loss

    def validation_step(self, batch, batch_idx):
        photograph, fabric = batch
        output = self(photograph)
        self.log("val_loss", nn.functional.cross_entropy(output, fabric))
        self.log("val_acc", (output.argmax(1) == fabric).float().mean())

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=2e-3)


def main(mended, seed):
    seed_everything(seed)
    normalize = Normalize([149.0, 92.0, 68.0], [30.0, 30.0, 30.0])
    train = Fabrics(torch.randint(4, (1200,)), transform=normalize)
    val = Fabrics(torch.randint(4, (300,)), transform=normalize if mended else None)
    trainer = Trainer(max_epochs=4, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(PatchTransformer(), DataLoader(train, batch_size=30, shuffle=True), DataLoader(val, batch_size=50))
