"""Cross-entropy enters the sum of losses with a minus: "maximise the classification term", as a comment says.

Source: the fault "flipped_sign" of TheDeepChecker (https://arxiv.org/abs/2204.00694); compare
https://github.com/akirasosa/mobile-semantic-segmentation/issues/24 ("Negative loss").
Added: 2026-11-28. Rules changed because of it: negative-loss (terms with a minus).
"""

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule, Trainer, seed_everything
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

DIAGNOSES = ("negative-loss",)
PLACE = None
PRESET = "standard"


class Joint(LightningModule):
    """An autoencoder whose code is classified, too."""

    def __init__(self, mended: bool) -> None:
        super().__init__()
        self.weight = 0.5 if mended else -0.5
        self.encoder = nn.Sequential(nn.Linear(64, 48), nn.ReLU(), nn.Linear(48, 16))
        self.decoder, self.classifier = nn.Linear(16, 64), nn.Linear(16, 10)

    def training_step(self, batch, batch_idx):
        x, y = batch
        code = self.encoder(x)
        loss = F.mse_loss(self.decoder(code), x) + self.weight * F.cross_entropy(self.classifier(code), y)
        self.log("loss", loss)
        return loss

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=2e-3)


def main(mended: bool, seed: int) -> None:
    seed_everything(seed)
    x, y = load_digits(return_X_y=True)
    data = TensorDataset(torch.tensor(x / 8 - 1, dtype=torch.float32), torch.tensor(y))
    trainer = Trainer(max_epochs=4, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(Joint(mended), DataLoader(data, batch_size=64, shuffle=True))
