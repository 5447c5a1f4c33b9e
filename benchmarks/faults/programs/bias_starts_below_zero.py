"""Half of a network does nothing: the biases of a layer were set to -4 "for sparsity".

Source: https://stackoverflow.com/questions/53749895 (units that never fire).
Added: 2026-11-28. Rules changed because of it: none.
"""

import torch
from lightning import LightningModule, Trainer, seed_everything
from sklearn.datasets import make_friedman1
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

DIAGNOSES = ("dead-units", "zero-gradient")
PLACE = "wide"
PRESET = "thorough"


class Sparse(LightningModule):
    def __init__(self, bias):
        super().__init__()
        self.skip = nn.Linear(10, 1)
        self.wide = nn.Sequential(nn.Linear(10, 128), nn.ReLU())
        nn.init.constant_(self.wide[0].bias, bias)
        self.head = nn.Linear(128, 1)

    def training_step(self, batch, batch_idx):
        x, y = batch
        loss = nn.functional.mse_loss((self.head(self.wide(x)) + self.skip(x)).squeeze(1), y)
        self.log("loss", loss)
        return loss

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=2e-3)


def main(mended, seed):
    seed_everything(seed)
    x, y = make_friedman1(1000, random_state=seed)
    x = torch.tensor(x, dtype=torch.float32) * 2 - 1
    data = TensorDataset(x, torch.tensor((y - y.mean()) / y.std(), dtype=torch.float32))
    trainer = Trainer(max_epochs=4, accelerator="cpu", enable_progress_bar=False, enable_model_summary=False)
    trainer.fit(Sparse(0.1 if mended else -4.0), DataLoader(data, batch_size=25, shuffle=True))
