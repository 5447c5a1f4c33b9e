"""A denoiser on a pretrained encoder is no better than one from scratch: ``init_weights`` went over everything.

Source: https://github.com/ImCharlesY/AdaInt/pull/12 (``init_weights`` overrides the pretrained backbone) and
https://github.com/zshn25/DINOv2_mmseg/pull/1.
Added: 2026-11-30. Rules changed because of it: none.
"""

import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

DIAGNOSES = ("weights-overwritten",)
PLACE = "encoder"
PRESET = "standard"
AGAIN = "initialised_after_loading"


def make_encoder():
    return nn.Sequential(
        nn.Conv2d(1, 12, 3, padding=1), nn.ReLU(), nn.Conv2d(12, 24, 3, stride=2, padding=1), nn.ReLU()
    )


class Denoiser(LightningModule):
    def __init__(self, mended):
        super().__init__()
        self.mended = mended
        self.encoder = make_encoder()
        self.decoder = nn.Sequential(nn.ConvTranspose2d(24, 12, 2, stride=2), nn.ReLU(), nn.Conv2d(12, 1, 3, padding=1))

    def init_weights(self):
        for name, module in self.named_modules():
            if self.mended and name.startswith("encoder"):
                continue
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.kaiming_normal_(module.weight)
                nn.init.zeros_(module.bias)

    def setup(self, stage):
        self.encoder.load_state_dict(torch.load("encoder.pt"))
        self.init_weights()

    def training_step(self, batch, batch_idx):
        (clean,) = batch
        restored = self.decoder(self.encoder(clean + 0.5 * torch.randn_like(clean)))
        loss = nn.functional.mse_loss(restored, clean)
        self.log("mse", loss)
        return loss

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-3)


def main(mended, seed):
    seed_everything(seed)
    torch.save(make_encoder().state_dict(), "encoder.pt")  # stands for weights that somebody published
    images = torch.tensor(load_digits().images, dtype=torch.float32)[:, None] / 8 - 1
    trainer = Trainer(max_epochs=2, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(Denoiser(mended), DataLoader(TensorDataset(images), batch_size=40, shuffle=True))
