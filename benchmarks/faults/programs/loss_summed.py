"""With batches of 16 a sentence classifier learns, with batches of 256 the same learning rate makes it useless.

Source: https://github.com/jax-ml/jax/pull/3113 and https://stackoverflow.com/questions/43611745 (a loss that is summed
over the batch).
Added: 2026-11-28. Rules changed because of it: none.
Missed: told as `info`: a sum is as good as a mean at a rate that goes with it; the explosion that follows here is
told.
"""

import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

DIAGNOSES = ("loss-reduction", "loss-at-init")
PLACE = "loss_summed.py:28"
PRESET = "standard"


class Sentences(LightningModule):
    def __init__(self, mended: bool) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.EmbeddingBag(200, 32), nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 6))
        self.loss = nn.CrossEntropyLoss(reduction="mean" if mended else "sum")

    def training_step(self, batch, batch_idx):
        x, y = batch
        return self.loss(self.net(x), y)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)


def main(mended: bool, seed: int) -> None:
    seed_everything(seed)
    label = torch.randint(6, (6000,))
    text = torch.randint(200, (6000, 15))
    text[:, :5] = torch.randint(30, (6000, 5)) + 30 * label[:, None]
    trainer = Trainer(max_epochs=4, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(Sentences(mended), DataLoader(TensorDataset(text, label), batch_size=256, shuffle=True))
