"""After the first picture was sampled for the logger, dropout and batch norm never work again.

Source: https://github.com/ThilinaRajapakse/simpletransformers/issues/941 (left in ``eval()`` within an epoch).
Added: 2026-11-28. Rules changed because of it: none.
"""

import torch
from lightning import LightningModule, Trainer, seed_everything
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

DIAGNOSES = ("eval-mode-in-training",)
PLACE = "net"
PRESET = "standard"


class Autoencoder(LightningModule):
    def __init__(self, mended):
        super().__init__()
        self.mended = mended
        self.net = nn.Sequential(
            nn.Linear(64, 40), nn.BatchNorm1d(40), nn.ReLU(), nn.Dropout(0.2), nn.Linear(40, 64), nn.Sigmoid()
        )
        self.pictures = []

    def training_step(self, batch, batch_idx):
        loss = nn.functional.binary_cross_entropy(self.net(batch[0]), batch[0])
        self.log("bce", loss)
        return loss

    def on_train_batch_end(self, outputs, batch, batch_idx):
        if batch_idx % 15 == 14:
            self.eval()
            with torch.no_grad():
                self.pictures.append(self.net(batch[0][:4]))
            if self.mended:
                self.train()

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=2e-3)


def main(mended, seed):
    seed_everything(seed)
    data = TensorDataset(torch.tensor(load_digits().data, dtype=torch.float32) / 16)
    trainer = Trainer(max_epochs=3, accelerator="cpu", enable_progress_bar=False, enable_model_summary=False)
    trainer.fit(Autoencoder(mended), DataLoader(data, batch_size=60, shuffle=True))
