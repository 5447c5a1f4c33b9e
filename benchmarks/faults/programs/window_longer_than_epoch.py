"""A small data set hardly trains with the settings of the big one: one update an epoch is all that is left.

Source: https://github.com/ultralytics/ultralytics/issues/11217 (windows of accumulation and the end of an epoch).
Added: 2026-11-28. Rules changed because of it: none.
"""

import torch
from lightning import LightningModule, Trainer, seed_everything
from sklearn.datasets import load_breast_cancer
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

DIAGNOSES = ("accumulation-window",)
PLACE = "accumulate_grad_batches"
PRESET = "standard"


class Tumour(LightningModule):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(30, 16), nn.ReLU(), nn.Linear(16, 1))

    def training_step(self, batch, batch_idx):
        x, y = batch
        loss = nn.functional.binary_cross_entropy_with_logits(self.net(x).squeeze(1), y)
        self.log("loss", loss)
        return loss

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)


def main(mended, seed):
    seed_everything(seed)
    table = load_breast_cancer()
    x = torch.tensor(table.data, dtype=torch.float32)
    data = TensorDataset((x - x.mean(0)) / x.std(0), torch.tensor(table.target, dtype=torch.float32))
    trainer = Trainer(
        max_epochs=8,
        accelerator="cpu",
        accumulate_grad_batches=2 if mended else 128,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(Tumour(), DataLoader(data, batch_size=16, shuffle=True))
