"""Healthy: half of the samples have no label yet and the weight 0; their class reads 0 and means nothing.

Source: none; written for the kind "masks that are arithmetic".
Added: 2026-11-28. Rules changed because of it: none.
"""

import torch
import torch.nn.functional as F
from lightning import LightningModule, Trainer, seed_everything
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

DIAGNOSES = ()
PLACE = None
PRESET = "thorough"


class SemiSupervised(LightningModule):
    """Labels where they are, the same answer under noise elsewhere."""

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))

    def losses(self, batch):
        x, label, known = batch
        logits = self.net(x)
        supervised = (F.cross_entropy(logits, label, reduction="none") * known).sum() / known.sum().clamp_min(1)
        again = self.net(x + 0.05 * torch.randn_like(x))
        return supervised, (logits.softmax(1) - again.softmax(1)).square().sum(1).mean()

    def training_step(self, batch, batch_idx):
        supervised, consistency = self.losses(batch)
        self.log_dict({"supervised": supervised, "consistency": consistency})
        return supervised + consistency

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", self.losses(batch)[0])

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=3e-3)


def main(mended, seed):
    seed_everything(seed)
    digits = load_digits()
    known = (torch.rand(1797) < 0.5).float()
    label = torch.where(known > 0, torch.tensor(digits.target), 0)
    data = TensorDataset(torch.tensor(digits.data, dtype=torch.float32) / 16, label, known)
    train, val = torch.utils.data.random_split(data, [1400, 397])
    trainer = Trainer(max_epochs=6, accelerator="cpu", enable_progress_bar=False, enable_model_summary=False)
    trainer.fit(SemiSupervised(), DataLoader(train, batch_size=50, shuffle=True), DataLoader(val, batch_size=100))
