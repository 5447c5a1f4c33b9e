"""A mixture density network for the inverse of a wavy function: softmax for the weights of five Gaussians.

Source: https://publications.aston.ac.uk/id/eprint/373/ (Bishop 1994)
Added: 2026-11-28. Rules changed because of it: none.
"""

import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from torch import nn
from torch.distributions import Categorical, MixtureSameFamily, Normal
from torch.utils.data import DataLoader, TensorDataset

DIAGNOSES = ()
PLACE = None
PRESET = "thorough"


class MDN(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(1, 48), nn.Tanh(), nn.Linear(48, 15))

    def step(self, batch):
        weight, mean, log_std = self.body(batch[0]).chunk(3, dim=1)
        mixture = MixtureSameFamily(Categorical(probs=weight.softmax(1)), Normal(mean, log_std.clamp(-4, 2).exp()))
        return -mixture.log_prob(batch[1].squeeze(1)).mean()

    def training_step(self, batch, batch_idx):
        return self.step(batch)

    def validation_step(self, batch, batch_idx):
        self.log("val_nll", self.step(batch))

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=5e-3)


def main(mended: bool, seed: int) -> None:
    seed_everything(seed)
    y = torch.rand(2600, 1) * 2 - 1
    x = y + 0.4 * (6.28 * y).sin() + 0.05 * torch.randn_like(y)
    train, val = TensorDataset(x[:2200], y[:2200]), TensorDataset(x[2200:], y[2200:])
    trainer = Trainer(max_epochs=4, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(MDN(), DataLoader(train, 50, shuffle=True), DataLoader(val, 200))
