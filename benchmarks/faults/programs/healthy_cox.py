"""Survival times with Cox' partial likelihood, which compares the samples of a batch with each other.

Source: https://arxiv.org/abs/1606.00931 (DeepSurv)
Added: 2026-11-28. Rules changed because of it: none.
"""

import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

DIAGNOSES = ()
PLACE = None
PRESET = "thorough"


def cox_loss(risk: torch.Tensor, time: torch.Tensor, event: torch.Tensor) -> torch.Tensor:
    order = time.argsort(descending=True)
    risk, event = risk[order], event[order]
    return -((risk - torch.logcumsumexp(risk, dim=0)) * event).sum() / event.sum().clamp(min=1)


class DeepSurv(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(8, 32), nn.SELU(), nn.Linear(32, 1, bias=False), nn.Flatten(0))

    def training_step(self, batch, batch_idx):
        x, time, event = batch
        return cox_loss(self.net(x), time, event)

    def validation_step(self, batch, batch_idx):
        x, time, event = batch
        self.log("val_loss", cox_loss(self.net(x), time, event))

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=3e-3)


def main(mended: bool, seed: int) -> None:
    seed_everything(seed)
    x = torch.randn(2000, 8)
    time = torch.distributions.Exponential((x[:, 0] - 0.5 * x[:, 1] ** 2).exp()).sample()
    limit = torch.rand(2000) * 3
    event = (time <= limit).float()
    data = [x, torch.minimum(time, limit), event]
    train, val = TensorDataset(*(d[:1600] for d in data)), TensorDataset(*(d[1600:] for d in data))
    trainer = Trainer(max_epochs=4, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(DeepSurv(), DataLoader(train, 64, shuffle=True), DataLoader(val, 200))
