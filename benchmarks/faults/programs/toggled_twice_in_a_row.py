"""An adversarial autoencoder toggles one optimizer, then the other, and stops in the first batch.

Source: https://github.com/Lightning-AI/pytorch-lightning/issues/7405 (mismatched ``toggle_optimizer``).
Added: 2026-11-30. Rules changed because of it: none.
"""

import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

DIAGNOSES = ("toggle-without-untoggle",)
PLACE = "toggle"
PRESET = "standard"
AGAIN = "toggled_off_until_it_raises"


def mlp(*sizes):
    a, b, c = sizes
    return nn.Sequential(nn.Linear(a, b), nn.ELU(), nn.Linear(b, c))


class AdversarialAutoencoder(LightningModule):
    def __init__(self, mended):
        super().__init__()
        self.mended, self.automatic_optimization = mended, False
        self.encoder, self.decoder, self.discriminator = mlp(64, 48, 6), mlp(6, 48, 64), mlp(6, 32, 1)

    def training_step(self, batch, batch_idx):
        (image,) = batch
        opt_d, opt_ae = self.optimizers()
        bce = nn.functional.binary_cross_entropy_with_logits

        self.toggle_optimizer(opt_d)
        real = self.discriminator(torch.randn(len(image), 6))
        fake = self.discriminator(self.encoder(image).detach())
        loss_d = bce(real, torch.ones_like(real)) + bce(fake, torch.zeros_like(fake))
        opt_d.zero_grad()
        self.manual_backward(loss_d)
        opt_d.step()
        if self.mended:
            self.untoggle_optimizer(opt_d)

        self.toggle_optimizer(opt_ae)
        code = self.encoder(image)
        score = self.discriminator(code)
        loss_ae = nn.functional.mse_loss(self.decoder(code), image) + 0.05 * bce(score, torch.ones_like(score))
        opt_ae.zero_grad()
        self.manual_backward(loss_ae)
        opt_ae.step()
        self.untoggle_optimizer(opt_ae)
        self.log_dict({"loss_d": loss_d, "loss_ae": loss_ae})

    def configure_optimizers(self):
        autoencoder = [*self.encoder.parameters(), *self.decoder.parameters()]
        return torch.optim.Adam(self.discriminator.parameters(), lr=1e-3), torch.optim.Adam(autoencoder, lr=2e-3)


def main(mended, seed):
    seed_everything(seed)
    image = torch.tensor(load_digits().data / 8 - 1, dtype=torch.float32)
    trainer = Trainer(max_epochs=3, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(AdversarialAutoencoder(mended), DataLoader(TensorDataset(image), batch_size=40, shuffle=True))
