"""A loop that was ported to manual optimization learns erratically and is worse the longer it runs.

Source: https://stackoverflow.com/questions/60335387 (no ``zero_grad`` in the loop; TrainCheck).
Added: 2026-11-28. Rules changed because of it: none.
"""

import torch
import torch.nn.functional as F
from lightning import LightningModule, Trainer, seed_everything
from sklearn.datasets import load_wine
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

DIAGNOSES = ("stale-gradients",)
PLACE = "zero_grad"
PRESET = "standard"


class Wine(LightningModule):
    def __init__(self, mended):
        super().__init__()
        self.automatic_optimization = False
        self.mended = mended
        self.net = nn.Sequential(nn.Linear(13, 24), nn.Hardswish(), nn.Linear(24, 3))

    def training_step(self, batch, batch_idx):
        optimizer = self.optimizers()
        loss = F.cross_entropy(self.net(batch[0]), batch[1])
        if self.mended:
            optimizer.zero_grad()
        self.manual_backward(loss)
        optimizer.step()
        self.log("loss", loss)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.02)


def main(mended, seed):
    seed_everything(seed)
    wine = load_wine()
    x = torch.tensor(wine.data, dtype=torch.float32)
    data = TensorDataset((x - x.mean(0)) / x.std(0), torch.tensor(wine.target))
    trainer = Trainer(max_epochs=12, accelerator="cpu", enable_progress_bar=False, enable_model_summary=False)
    trainer.fit(Wine(mended), DataLoader(data, batch_size=16, shuffle=True))
