"""A Q network fitted to logged transitions gives nearly the same value to every state.

Source: https://github.com/sunwuzhou03/reinforcement-learning-lab/issues/1
(a temporal-difference target of another shape).
Added: 2026-11-28. Rules changed because of it: none.
"""

import copy

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule, Trainer, seed_everything
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

DIAGNOSES = ("shape-broadcast",)
PLACE = "broadcast_td_target.py:36"
PRESET = "standard"


class FittedQ(LightningModule):
    def __init__(self, mended: bool) -> None:
        super().__init__()
        self.mended = mended
        self.q = nn.Sequential(nn.Linear(5, 64), nn.ReLU(), nn.Linear(64, 3))
        self.target = copy.deepcopy(self.q).requires_grad_(False)

    def training_step(self, batch, batch_idx):
        state, action, reward, following, done = batch
        chosen = self.q(state).gather(1, action[:, None])
        with torch.no_grad():
            best = self.target(following).max(dim=1).values
        goal = reward + 0.95 * (1 - done) * best
        if self.mended:
            goal = goal[:, None]
        return F.smooth_l1_loss(chosen, goal)

    def on_train_batch_end(self, outputs, batch, batch_idx):
        if self.global_step % 20 == 0:
            self.target.load_state_dict(self.q.state_dict())

    def configure_optimizers(self):
        return torch.optim.Adam([p for p in self.parameters() if p.requires_grad], lr=1e-3)


def main(mended: bool, seed: int) -> None:
    seed_everything(seed)
    state, following = torch.randn(2560, 5), torch.randn(2560, 5)
    action = torch.randint(3, (2560,))
    reward = state.gather(1, action[:, None]).squeeze(1)
    done = (torch.rand(2560) < 0.1).float()
    loader = DataLoader(TensorDataset(state, action, reward, following, done), batch_size=32, shuffle=True)
    trainer = Trainer(max_epochs=2, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(FittedQ(mended), loader)
