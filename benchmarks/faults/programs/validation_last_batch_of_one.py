"""``val_loss`` is NaN although ``train_loss`` falls; with another batch size it is not.

Source: https://github.com/facebookresearch/SparseConvNet/issues/190 (statistics of a batch of one, in testing only).
Added: 2026-11-28. Rules changed because of it: none.
"""

import torch
import torch.nn.functional as F
from lightning import LightningModule, Trainer, seed_everything
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

DIAGNOSES = ("nonfinite-validation",)
PLACE = "std"
PRESET = "standard"


class Digits(LightningModule):
    def __init__(self, mended):
        super().__init__()
        self.correction = 0 if mended else 1
        self.encode = nn.Sequential(nn.Flatten(), nn.Linear(64, 48), nn.ReLU(), nn.Linear(48, 6))
        self.decode = nn.Sequential(nn.Linear(6, 48), nn.ReLU(), nn.Linear(48, 64), nn.Unflatten(1, (8, 8)))

    def training_step(self, batch, batch_idx):
        loss = F.mse_loss(self.decode(self.encode(batch[0])), batch[0])
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch, batch_idx):
        code = self.encode(batch[0])
        spread = code.std(0, correction=self.correction).mean()  # the code must not collapse
        loss = F.mse_loss(self.decode(code), batch[0]) + 0.1 * (1 - spread).clamp_min(0)
        self.log("val_loss", loss)

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=3e-3)


def main(mended, seed):
    seed_everything(seed)
    images = torch.tensor(load_digits().images, dtype=torch.float32)[torch.randperm(1797)] / 16
    train = DataLoader(TensorDataset(images[:1500]), batch_size=50, shuffle=True)
    val = DataLoader(TensorDataset(images[1500:]), batch_size=37)  # 297 = 8 * 37 + 1
    trainer = Trainer(max_epochs=3, accelerator="cpu", enable_progress_bar=False, enable_model_summary=False)
    trainer.fit(Digits(mended), train, val)
