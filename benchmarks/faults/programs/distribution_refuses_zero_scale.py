"""A probabilistic regression stops with a ValueError on the scale of its Normal in some step.

Source: https://github.com/lupinjia/LeggedGym-Ex/issues/12 (parameters outside of the support of the distribution).
Added: 2026-11-28. Rules changed because of it: none.
"""

import torch
from lightning import LightningModule, Trainer, seed_everything
from sklearn.datasets import load_diabetes
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

DIAGNOSES = ("step-raised",)
PLACE = "Normal("
PRESET = "standard"


class Probabilistic(LightningModule):
    def __init__(self, mended):
        super().__init__()
        self.mended = mended
        self.trunk = nn.Sequential(nn.Linear(10, 32), nn.LeakyReLU())
        self.mean, self.spread = nn.Linear(32, 1), nn.Linear(32, 1)

    def training_step(self, batch, batch_idx):
        x, y = batch
        hidden = self.trunk(x)
        spread = nn.functional.softplus(self.spread(hidden)) if self.mended else torch.relu(self.spread(hidden))
        model = torch.distributions.Normal(self.mean(hidden), spread)
        loss = -model.log_prob(y[:, None]).mean()
        self.log("nll", loss)
        return loss

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=3e-3)


def main(mended, seed):
    seed_everything(seed)
    x, y = (torch.tensor(part, dtype=torch.float32) for part in load_diabetes(return_X_y=True))
    loader = DataLoader(TensorDataset(x / x.std(0), (y - y.mean()) / y.std()), batch_size=32, shuffle=True)
    trainer = Trainer(max_epochs=4, accelerator="cpu", enable_progress_bar=False, enable_model_summary=False)
    trainer.fit(Probabilistic(mended), loader)
