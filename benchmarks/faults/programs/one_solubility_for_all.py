"""Solubility from the bits of a fingerprint: every molecule gets the same answer, the mean.

Source: https://ai.stackexchange.com/questions/16557 (binary vectors to real values, a sigmoid after every layer).
Added: 2026-11-30. Rules changed because of it: none.
"""

import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

DIAGNOSES = ("vanishing-gradient", "constant-output")
PLACE = None
PRESET = "standard"
AGAIN = "twelve_sigmoids"


class Solubility(LightningModule):
    def __init__(self, mended, bits=48, width=96, depth=15):
        super().__init__()
        self.mended = mended
        self.embed = nn.Linear(bits, width)
        self.hidden = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(depth)) if mended else None
        self.readout = nn.Linear(width, 1)

    def forward(self, fingerprint):
        h = torch.sigmoid(self.embed(fingerprint))
        for i, layer in enumerate(self.hidden):
            if self.mended:
                h = h + torch.sigmoid(layer(self.norms[i](h)))
            else:
                h = torch.sigmoid(layer(h))
        return self.readout(h).squeeze(-1)

    def training_step(self, batch, batch_idx):
        fingerprint, solubility = batch
        loss = F.mse_loss(self(fingerprint), solubility)
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch, batch_idx):
        fingerprint, solubility = batch
        self.log("val_loss", F.mse_loss(self(fingerprint), solubility))

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-3)


def main(mended, seed):
    seed_everything(seed)
    fingerprint = (torch.rand(2400, 48) < 0.4).float()
    share = torch.randn(48)
    solubility = fingerprint @ share + 2 * fingerprint[:, 0] * fingerprint[:, 1] + 0.2 * torch.randn(2400)
    solubility = (solubility - solubility.mean()) / solubility.std()
    train = TensorDataset(fingerprint[:2000], solubility[:2000])
    val = TensorDataset(fingerprint[2000:], solubility[2000:])
    trainer = Trainer(max_epochs=8, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(Solubility(mended), DataLoader(train, batch_size=40, shuffle=True), DataLoader(val, batch_size=100))
