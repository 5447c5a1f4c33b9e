"""A finished run is resumed for "ten more epochs" and ends within a second, without a word.

Source: https://github.com/Lightning-AI/pytorch-lightning/issues/850 (what a checkpoint's epoch means on resuming).
Added: 2026-11-28. Rules changed because of it: none.
"""

import torch
from lightning import LightningModule, Trainer, seed_everything
from sklearn.datasets import make_friedman1
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

DIAGNOSES = ("no-training-step",)
PLACE = "max_epochs"
PRESET = "standard"


class Friedman(LightningModule):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(10, 40), nn.SELU(), nn.Linear(40, 1))

    def training_step(self, batch, batch_idx):
        loss = nn.functional.l1_loss(self.net(batch[0]).squeeze(1), batch[1])
        self.log("mae", loss)
        return loss

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=3e-3)


def main(mended, seed):
    seed_everything(seed)
    x, y = make_friedman1(600, random_state=seed, noise=0.5)
    data = TensorDataset(torch.tensor(x, dtype=torch.float32), torch.tensor((y - y.mean()) / y.std()).float())
    options = {"accelerator": "cpu", "enable_progress_bar": False, "enable_model_summary": False}
    first = Trainer(max_epochs=4, **options)
    first.fit(Friedman(), DataLoader(data, batch_size=30, shuffle=True))
    first.save_checkpoint("done.ckpt")
    more = Trainer(max_epochs=8 if mended else 4, **options)
    more.fit(Friedman(), DataLoader(data, batch_size=30, shuffle=True), ckpt_path="done.ckpt")
