"""A recommender's embeddings hold NaN after one step, in the rows of products that nobody bought yet.

Source: https://github.com/google-deepmind/optax/issues/1754 (0/0 in the update where the gradient is exactly zero).
Added: 2026-11-28. Rules changed because of it: none.
"""

import torch
import torch.nn.functional as F
from lightning import LightningModule, Trainer, seed_everything
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

DIAGNOSES = ("optimizer-nonfinite",)
PLACE = "product"
PRESET = "standard"


class Baskets(LightningModule):
    def __init__(self, mended):
        super().__init__()
        self.eps = 1e-10 if mended else 0.0
        self.product = nn.Embedding(120, 12)
        self.next = nn.Linear(12, 120)

    def training_step(self, batch, batch_idx):
        seen, following = batch
        loss = F.cross_entropy(self.next(self.product(seen).mean(1)), following)
        self.log("loss", loss)
        return loss

    def configure_optimizers(self):
        return torch.optim.Adagrad(self.parameters(), lr=0.05, eps=self.eps)


def main(mended, seed):
    seed_everything(seed)
    start = torch.randint(0, 100, (800, 1))
    seen = (start + torch.arange(4)) % 120
    data = TensorDataset(seen, (start[:, 0] + 4) % 120)
    trainer = Trainer(max_epochs=2, accelerator="cpu", enable_progress_bar=False, enable_model_summary=False)
    trainer.fit(Baskets(mended), DataLoader(data, batch_size=16, shuffle=True))
