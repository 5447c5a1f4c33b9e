"""Q-learning from logged transitions with a target network that is copied every 25 steps.

Source: https://arxiv.org/abs/1312.5602
Added: 2026-11-28. Rules changed because of it: none.
"""

import copy

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule, Trainer, seed_everything
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

DIAGNOSES = ()
PLACE = None
PRESET = "thorough"


class DQN(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.q = nn.Sequential(nn.Linear(4, 48), nn.ReLU(), nn.Linear(48, 48), nn.ReLU(), nn.Linear(48, 2))
        self.target = copy.deepcopy(self.q).requires_grad_(False)

    def training_step(self, batch, batch_idx):
        state, action, reward, following, done = batch
        chosen = self.q(state).gather(1, action[:, None]).squeeze(1)
        with torch.no_grad():
            goal = reward + 0.9 * (1 - done) * self.target(following).max(1).values
        return F.smooth_l1_loss(chosen, goal)

    def on_train_batch_end(self, outputs, batch, batch_idx):
        if self.global_step % 25 == 0:
            self.target.load_state_dict(self.q.state_dict())

    def configure_optimizers(self):
        return torch.optim.Adam(self.q.parameters(), lr=1e-3)


def main(mended: bool, seed: int) -> None:
    seed_everything(seed)
    state = torch.randn(3000, 4)
    action = torch.randint(2, (3000,))
    following = state + 0.3 * (2 * action[:, None] - 1) * torch.tensor([1.0, 0.5, 0, 0]) + 0.05 * torch.randn(3000, 4)
    reward = -following[:, 0].abs()
    done = (following[:, 0].abs() > 2).float()
    loader = DataLoader(TensorDataset(state, action, reward, following, done), 64, shuffle=True)
    trainer = Trainer(max_epochs=3, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(DQN(), loader)
