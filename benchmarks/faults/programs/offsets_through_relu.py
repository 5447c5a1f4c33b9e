"""Where is the spot, relative to the centre? A network whose blocks all end in ReLU never says left or up.

Source: https://github.com/tsinghua-rll/VoxelNet-tensorflow/issues/10 (ReLU on the last layer that regresses offsets).
Added: 2026-11-30. Rules changed because of it: none.
"""

import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

DIAGNOSES = ("output-range",)
PLACE = "offsets_through_relu.py:25"
PRESET = "standard"
AGAIN = "relu_output_diabetes"


class Block(nn.Module):
    def __init__(self, layer, relu=True):
        super().__init__()
        self.layer, self.relu = layer, relu

    def forward(self, x):
        x = self.layer(x)
        return torch.relu(x) if self.relu else x


class Locator(LightningModule):
    def __init__(self, mended):
        super().__init__()
        self.features = nn.Sequential(
            Block(nn.Conv2d(1, 8, 3, padding=1)), Block(nn.Conv2d(8, 16, 3, stride=2, padding=1)), nn.Flatten()
        )
        self.regress = Block(nn.Linear(16 * 49, 2), relu=not mended)

    def training_step(self, batch, batch_idx):
        image, offset = batch
        loss = nn.functional.smooth_l1_loss(self.regress(self.features(image)), offset)
        self.log("loss", loss)
        return loss

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-3)


def main(mended, seed):
    seed_everything(seed)
    offset = torch.rand(1200, 2) * 2 - 1
    grid = torch.linspace(-1, 1, 14)
    row = torch.exp(-((grid - offset[:, :1]) ** 2) * 20)
    column = torch.exp(-((grid - offset[:, 1:]) ** 2) * 20)
    image = row[:, None, :, None] * column[:, None, None, :] + 0.1 * torch.randn(1200, 1, 14, 14)
    trainer = Trainer(max_epochs=3, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(Locator(mended), DataLoader(TensorDataset(image, offset), batch_size=40, shuffle=True))
