"""A policy that was written for one state is trained on batches of states: its probabilities sum to 1 downwards.

Source: https://github.com/DeepReinforcementLearning/DeepReinforcementLearningInAction/issues/32 (``Softmax(dim=0)``).
Added: 2026-11-30. Rules changed because of it: batch-leak (losses by hand).
"""

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule, Trainer, seed_everything
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

DIAGNOSES = ("batch-leak",)
PLACE = "policy_over_the_batch.py:30"
PRESET = "standard"


class ClonedPolicy(LightningModule):
    """Behaviour cloning of a controller with three actions."""

    def __init__(self, mended):
        super().__init__()
        self.mended = mended
        self.fc1, self.fc2, self.action = nn.Linear(4, 64), nn.Linear(64, 64), nn.Linear(64, 3)

    def forward(self, state):
        h = F.leaky_relu(self.fc2(F.leaky_relu(self.fc1(state))))
        if self.mended:
            return F.softmax(self.action(h), dim=1)
        return F.softmax(self.action(h), dim=0)

    def training_step(self, batch, batch_idx):
        state, action = batch
        chosen = self(state).gather(1, action[:, None])
        loss = -torch.log(chosen + 1e-8).mean()
        self.log("nll", loss)
        return loss

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-3)


def main(mended, seed):
    seed_everything(seed)
    state = torch.randn(2000, 4)
    push = state @ torch.tensor([0.5, 1.0, -2.0, 0.7])
    action = (push > -0.7).long() + (push > 0.7).long()
    trainer = Trainer(max_epochs=3, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(ClonedPolicy(mended), DataLoader(TensorDataset(state, action), batch_size=50, shuffle=True))
