"""Soft actor-critic with three optimizers ends in its second batch: a tensor "does not require grad".

Source: https://github.com/Lightning-AI/pytorch-lightning/issues/7405 (a mismatched ``toggle_optimizer``).
Added: 2026-11-28, after toggle-without-untoggle was changed and without sight of it. Rules changed because of it: none.
"""

import torch
from lightning import LightningModule, Trainer, seed_everything
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

DIAGNOSES = ("toggle-without-untoggle",)
PLACE = "toggle"
PRESET = "standard"


class SoftActorCritic(LightningModule):
    """One-step control from a buffer of (state, action, reward)."""

    def __init__(self, mended):
        super().__init__()
        self.automatic_optimization = False
        self.mended = mended
        self.actor = nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.Linear(32, 2))
        self.critic = nn.Sequential(nn.Linear(5, 32), nn.ReLU(), nn.Linear(32, 1))
        self.log_alpha = nn.Parameter(torch.zeros(()))

    def sample(self, state):
        mean, log_std = self.actor(state).chunk(2, 1)
        policy = torch.distributions.Normal(mean, log_std.clamp(-3, 1).exp())
        action = policy.rsample()
        return action, policy.log_prob(action)

    def descend(self, optimizer, loss):
        optimizer.zero_grad()
        self.manual_backward(loss)
        optimizer.step()

    def training_step(self, batch, batch_idx):
        state, action, reward = batch
        of_critic, of_actor, of_alpha = self.optimizers()
        self.toggle_optimizer(of_critic)
        self.descend(of_critic, (self.critic(torch.cat([state, action], 1)) - reward).square().mean())
        self.untoggle_optimizer(of_critic)

        self.toggle_optimizer(of_actor)
        chosen, chance = self.sample(state)
        value = self.critic(torch.cat([state, chosen], 1))
        self.descend(of_actor, (self.log_alpha.exp().detach() * chance - value).mean())
        if self.mended:
            self.untoggle_optimizer(of_actor)

        self.toggle_optimizer(of_alpha)
        self.descend(of_alpha, -(self.log_alpha * (chance.detach() - 1)).mean())
        self.untoggle_optimizer(of_alpha)

    def configure_optimizers(self):
        parts = (self.critic.parameters(), self.actor.parameters(), [self.log_alpha])
        return [torch.optim.Adam(part, lr=1e-3) for part in parts], []


def main(mended, seed):
    seed_everything(seed)
    state, action = torch.randn(800, 4), torch.randn(800, 1)
    reward = -(action - state[:, :1] * state[:, 1:2]).square()
    loader = DataLoader(TensorDataset(state, action, reward), batch_size=40, shuffle=True)
    trainer = Trainer(max_epochs=2, accelerator="cpu", enable_progress_bar=False, enable_model_summary=False)
    trainer.fit(SoftActorCritic(mended), loader)
