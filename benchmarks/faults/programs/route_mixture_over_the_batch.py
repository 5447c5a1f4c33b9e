"""Travel times over three routes as a mixture of densities: the likelihood stays far below that of a proper density.

Source: https://github.com/ctallec/world-models/issues/10 (the log-softmax of pi is taken over the batch dimension).
Added: 2026-11-30. Rules changed because of it: none.
Missed: the predictions are several tensors, none of which is `(N, C)` scores that `forward` returns.
"""

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningDataModule, LightningModule, Trainer, seed_everything
from torch import nn
from torch.distributions import Normal
from torch.utils.data import DataLoader, TensorDataset

DIAGNOSES = ("batch-leak",)
PLACE = "route_mixture_over_the_batch.py:36"
PRESET = "standard"
AGAIN = "policy_over_the_batch"


class TravelTime(LightningModule):
    def __init__(self, mended, routes=3):
        super().__init__()
        self.mended = mended
        self.trunk = nn.Sequential(nn.Linear(6, 48), nn.Tanh(), nn.Linear(48, 48), nn.Tanh())
        self.pi = nn.Linear(48, routes)
        self.mu = nn.Linear(48, routes)
        self.log_sigma = nn.Linear(48, routes)

    def forward(self, trip):
        hidden = self.trunk(trip)
        return self.pi(hidden), self.mu(hidden), self.log_sigma(hidden).clamp(-4, 2)

    def negative_log_likelihood(self, trip, minutes):
        pi, mu, log_sigma = self(trip)
        log_pi = F.log_softmax(pi, dim=-1) if self.mended else F.log_softmax(pi, dim=-2)
        log_prob = Normal(mu, log_sigma.exp()).log_prob(minutes.unsqueeze(-1))
        return -torch.logsumexp(log_pi + log_prob, dim=-1).mean()

    def training_step(self, batch, batch_idx):
        loss = self.negative_log_likelihood(*batch)
        self.log("train_nll", loss)
        return loss

    def validation_step(self, batch, batch_idx):
        trip, minutes = batch
        self.log("val_nll", self.negative_log_likelihood(trip, minutes))
        pi, mu, _ = self(trip)
        expected = (pi.softmax(-1) * mu).sum(-1)
        self.log("val_mae", F.l1_loss(expected, minutes))

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=4e-3)


class Trips(LightningDataModule):
    def draw(self, count):
        trip = torch.randn(count, 6)
        odds = torch.stack([trip[:, 0] + 1.5, 2 * trip[:, 1], trip[:, 2] - 2], dim=-1)
        route = torch.distributions.Categorical(logits=2 * odds).sample()
        minutes = torch.stack([trip[:, 3] - 1, 0.5 * trip[:, 4], trip[:, 3] * 0.3 + 3], dim=-1)
        minutes = minutes.gather(1, route[:, None]).squeeze(1) + 0.15 * torch.randn(count)
        return TensorDataset(trip, minutes / 1.4)

    def setup(self, stage):
        self.train, self.val = self.draw(3000), self.draw(640)

    def train_dataloader(self):
        return DataLoader(self.train, batch_size=32, shuffle=True)

    def val_dataloader(self):
        return DataLoader(self.val, batch_size=64)


def main(mended, seed):
    seed_everything(seed)
    trainer = Trainer(max_epochs=8, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(TravelTime(mended), datamodule=Trips())
