"""A VQ-VAE: nearest code words, straight-through gradient, commitment loss.

Source: https://arxiv.org/abs/1711.00937
Added: 2026-11-28. Rules changed because of it: none.
"""

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule, Trainer, seed_everything
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader

DIAGNOSES = ()
PLACE = None
PRESET = "thorough"


class VQVAE(LightningModule):
    def __init__(self, codes: int = 48) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Conv2d(1, 24, 2, 2), nn.ReLU(), nn.Conv2d(24, 8, 2, 2))
        self.codes = nn.Embedding(codes, 8)
        nn.init.normal_(self.codes.weight, std=0.3)
        self.decoder = nn.Sequential(nn.ConvTranspose2d(8, 24, 2, 2), nn.ReLU(), nn.ConvTranspose2d(24, 1, 2, 2))

    def step(self, image):
        z = self.encoder(image).permute(0, 2, 3, 1)
        nearest = torch.cdist(z.reshape(-1, 8), self.codes.weight).argmin(1).view(z.shape[:-1])
        code = self.codes(nearest)
        through = z + (code - z).detach()
        loss = F.mse_loss(self.decoder(through.permute(0, 3, 1, 2)), image)
        return loss + F.mse_loss(code, z.detach()) + 0.25 * F.mse_loss(z, code.detach())

    def training_step(self, image, batch_idx):
        return self.step(image)

    def validation_step(self, image, batch_idx):
        self.log("val_loss", self.step(image))

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=3e-3)


def main(mended: bool, seed: int) -> None:
    seed_everything(seed)
    image = torch.tensor(load_digits().images, dtype=torch.float32)[torch.randperm(1797), None] / 8 - 1
    trainer = Trainer(max_epochs=4, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(VQVAE(), DataLoader(image[:1500], 32, shuffle=True), DataLoader(image[1500:], 100))
