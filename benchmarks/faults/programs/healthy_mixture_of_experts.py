"""Four experts, one of which is chosen for each sample by a softmax gate; a loss balances their use.

Source: https://arxiv.org/abs/2101.03961 (Switch)
Added: 2026-11-28. Rules changed because of it: none.
"""

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule, Trainer, seed_everything
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

DIAGNOSES = ()
PLACE = None
PRESET = "thorough"


class Switch(LightningModule):
    def __init__(self, experts: int = 4) -> None:
        super().__init__()
        self.gate = nn.Linear(6, experts)
        self.experts = nn.ModuleList(
            nn.Sequential(nn.Linear(6, 24), nn.ReLU(), nn.Linear(24, 1)) for _ in range(experts)
        )

    def forward(self, x):
        gate = self.gate(x).softmax(1)
        weight, chosen = gate.max(1)
        y = torch.zeros(len(x), 1, device=x.device)
        for i, expert in enumerate(self.experts):
            mine = torch.nonzero(chosen == i).flatten()
            if len(mine):
                y = y.index_add(0, mine, expert(x[mine]) * weight[mine, None])
        share = F.one_hot(chosen, len(self.experts)).float().mean(0)
        return y, len(self.experts) * (share * gate.mean(0)).sum()

    def training_step(self, batch, batch_idx):
        y, balance = self(batch[0])
        return F.mse_loss(y, batch[1]) + 0.01 * balance

    def validation_step(self, batch, batch_idx):
        self.log("val_mse", F.mse_loss(self(batch[0])[0], batch[1]))

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=3e-3)


def main(mended: bool, seed: int) -> None:
    seed_everything(seed)
    x = torch.randn(2400, 6)
    y = torch.where(x[:, :1] > 0, x[:, 1:2] * 2, x[:, 2:3].sin()) + 0.05 * torch.randn(2400, 1)
    train, val = TensorDataset(x[:2000], y[:2000]), TensorDataset(x[2000:], y[2000:])
    trainer = Trainer(max_epochs=4, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(Switch(), DataLoader(train, 40, shuffle=True), DataLoader(val, 100))
