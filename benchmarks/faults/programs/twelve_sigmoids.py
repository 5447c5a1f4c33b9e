"""An autoencoder of stacked sigmoids gives the same grey picture for everything.

Source: https://stackoverflow.com/questions/39217567 (a deep stack of sigmoids does not learn).
Added: 2026-11-28. Rules changed because of it: affine-network (smooth activations).
"""

from itertools import pairwise

import torch
from lightning import LightningModule, Trainer, seed_everything
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

DIAGNOSES = ("vanishing-gradient", "constant-output")
PLACE = None
PRESET = "standard"


class Deep(LightningModule):
    def __init__(self, mended):
        super().__init__()
        widths = [64, 48, 40, 32, 24, 16, 16, 24, 32, 40, 48, 64]
        layers = []
        for here, there in pairwise(widths):
            layers += [nn.Linear(here, there), nn.SELU() if mended else nn.Sigmoid()]
        self.net = nn.Sequential(*layers[:-1])

    def training_step(self, batch, batch_idx):
        loss = nn.functional.mse_loss(self.net(batch[0]), batch[0])
        self.log("mse", loss)
        return loss

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-3)


def main(mended, seed):
    seed_everything(seed)
    data = TensorDataset(torch.tensor(load_digits().data, dtype=torch.float32) / 16)
    trainer = Trainer(max_epochs=4, accelerator="cpu", enable_progress_bar=False, enable_model_summary=False)
    trainer.fit(Deep(mended), DataLoader(data, batch_size=40, shuffle=True))
