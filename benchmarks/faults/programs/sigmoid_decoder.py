"""An autoencoder of standardised digit images gives grey blobs: nothing dark comes back.

Source: https://stackoverflow.com/questions/69284837 (sigmoid output, data outside of 0..1); see also
https://github.com/AntixK/PyTorch-VAE/issues/48.
Added: 2026-11-28. Rules changed because of it: none.
"""

import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader

DIAGNOSES = ("output-range",)
PLACE = "sigmoid_decoder.py:32"
PRESET = "standard"


class ConvAutoencoder(LightningModule):
    def __init__(self, mended: bool) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(1, 8, 3, stride=2, padding=1), nn.ELU(), nn.Conv2d(8, 6, 3, stride=2, padding=1)
        )
        self.decoder = nn.Sequential(
            nn.ConvTranspose2d(6, 8, 2, stride=2), nn.ELU(), nn.ConvTranspose2d(8, 1, 2, stride=2)
        )
        if not mended:
            self.decoder.append(nn.Sigmoid())

    def training_step(self, image, batch_idx):
        reconstruction = self.decoder(self.encoder(image))
        loss = nn.functional.mse_loss(reconstruction, image)
        self.log("reconstruction", loss)
        return loss

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=2e-3)


def main(mended: bool, seed: int) -> None:
    seed_everything(seed)
    image = torch.tensor(load_digits().images, dtype=torch.float32)[:, None]
    image = (image - image.mean()) / image.std()
    trainer = Trainer(max_epochs=3, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(ConvAutoencoder(mended), DataLoader(list(image), batch_size=64, shuffle=True))
