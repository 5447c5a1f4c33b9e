"""The loss is flat: the configuration has learning rate and weight decay swapped.

Source: https://stackoverflow.com/questions/34311586 (a rate that is too small to learn anything).
Added: 2026-11-28. Rules changed because of it: none.
"""

import torch
import torch.nn.functional as F
from lightning import LightningModule, Trainer, seed_everything
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

DIAGNOSES = ("update-ratio-low",)
PLACE = "1e-06"
PRESET = "standard"


class Attention(LightningModule):
    """Reads a digit as 8 rows."""

    def __init__(self, lr, weight_decay):
        super().__init__()
        self.save_hyperparameters()
        self.up = nn.Linear(8, 32)
        self.block = nn.TransformerEncoderLayer(32, 4, 64, dropout=0.0, batch_first=True)
        self.head = nn.Linear(32, 10)

    def training_step(self, batch, batch_idx):
        loss = F.cross_entropy(self.head(self.block(self.up(batch[0])).mean(1)), batch[1])
        self.log("loss", loss)
        return loss

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=self.hparams.lr, weight_decay=self.hparams.weight_decay)


def main(mended, seed):
    seed_everything(seed)
    digits = load_digits()
    data = TensorDataset(torch.tensor(digits.images, dtype=torch.float32) / 16, torch.tensor(digits.target))
    model = Attention(2e-3, 1e-6) if mended else Attention(1e-6, 2e-3)
    trainer = Trainer(max_epochs=3, accelerator="cpu", enable_progress_bar=False, enable_model_summary=False)
    trainer.fit(model, DataLoader(data, batch_size=45, shuffle=True))
