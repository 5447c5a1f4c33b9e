"""Every prediction is the same number: the last layer norm stands over a dimension of size 1.

Source: https://stackoverflow.com/questions/31880720 (normalising one output makes a constant of it).
Added: 2026-11-28. Rules changed because of it: none.
"""

import torch
from lightning import LightningModule, Trainer, seed_everything
from sklearn.datasets import load_diabetes
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

DIAGNOSES = ("constant-output", "zero-gradient", "unused-input")
PLACE = None
PRESET = "standard"


def block(inputs, outputs):
    return nn.Sequential(nn.Linear(inputs, outputs), nn.LayerNorm(outputs))


class Regressor(LightningModule):
    def __init__(self, mended):
        super().__init__()
        last = nn.Linear(32, 1) if mended else block(32, 1)
        self.net = nn.Sequential(block(10, 32), nn.GELU(), block(32, 32), nn.GELU(), last)

    def training_step(self, batch, batch_idx):
        loss = nn.functional.smooth_l1_loss(self.net(batch[0]).squeeze(1), batch[1])
        self.log("loss", loss)
        return loss

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=2e-3)


def main(mended, seed):
    seed_everything(seed)
    x, y = (torch.tensor(part, dtype=torch.float32) for part in load_diabetes(return_X_y=True))
    data = TensorDataset(x / x.std(0), (y - y.mean()) / y.std())
    trainer = Trainer(max_epochs=6, accelerator="cpu", enable_progress_bar=False, enable_model_summary=False)
    trainer.fit(Regressor(mended), DataLoader(data, batch_size=26, shuffle=True))
