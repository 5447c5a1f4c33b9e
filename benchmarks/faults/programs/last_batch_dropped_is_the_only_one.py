"""The script ends at once with exit code 0, and the "trained" model answers at random.

Source: https://github.com/Lightning-AI/pytorch-lightning/issues/20344 (nothing is trained, and nothing says so).
Added: 2026-11-28. Rules changed because of it: none.
"""

import torch
import torch.nn.functional as F
from lightning import LightningModule, Trainer, seed_everything
from sklearn.datasets import load_iris
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

DIAGNOSES = ("no-training-step",)
PLACE = "batch"
PRESET = "standard"


class Iris(LightningModule):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, 3))

    def training_step(self, batch, batch_idx):
        loss = F.cross_entropy(self.net(batch[0]), batch[1])
        self.log("loss", loss)
        return loss

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-2)


def main(mended, seed):
    seed_everything(seed)
    iris = load_iris()
    x = torch.tensor(iris.data, dtype=torch.float32)
    data = TensorDataset((x - x.mean(0)) / x.std(0), torch.tensor(iris.target))  # 150 flowers
    loader = DataLoader(data, batch_size=25 if mended else 256, shuffle=True, drop_last=True)
    trainer = Trainer(max_epochs=20, accelerator="cpu", enable_progress_bar=False, enable_model_summary=False)
    trainer.fit(Iris(), loader)
