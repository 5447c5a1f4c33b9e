"""REINFORCE on a little corridor: the dataset plays episodes, the loss is noisy and changes its sign.

Source: https://github.com/pytorch/examples/tree/main/reinforcement_learning
Added: 2026-11-28. Rules changed because of it: none.
"""

import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from torch import nn
from torch.utils.data import DataLoader, IterableDataset

DIAGNOSES = ()
PLACE = None
PRESET = "thorough"


class Episodes(IterableDataset):
    """A walker on 0..8 starts at 4 and gets 1 at 8; the policy of now decides."""

    def __init__(self, policy: nn.Module, count: int) -> None:
        self.policy, self.count = policy, count

    def __iter__(self):
        for _ in range(self.count):
            states, actions, position, reward = [], [], 4, 0.0
            for _ in range(12):
                state = torch.zeros(9)
                state[position] = 1
                with torch.no_grad():
                    action = int(torch.multinomial(self.policy(state).softmax(-1), 1))
                states.append(state)
                actions.append(action)
                position = max(position + (1 if action else -1), 0)
                if position == 8:
                    reward = 1.0
                    break
            gain = torch.tensor([reward * 0.95 ** (len(states) - i) for i in range(len(states))])
            yield torch.stack(states), torch.tensor(actions), gain


class Reinforce(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.policy = nn.Sequential(nn.Linear(9, 24), nn.Tanh(), nn.Linear(24, 2))
        self.register_buffer("baseline", torch.tensor(0.3))

    def train_dataloader(self):
        return DataLoader(Episodes(self.policy, 250), batch_size=None)

    def training_step(self, episode, batch_idx):
        states, actions, gain = episode
        log_probability = self.policy(states).log_softmax(-1).gather(1, actions[:, None]).squeeze(1)
        loss = -(log_probability * (gain - self.baseline)).mean()
        self.baseline.lerp_(gain.mean(), 0.05)
        self.log("reward", gain.max())
        return loss

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-2)


def main(mended: bool, seed: int) -> None:
    seed_everything(seed)
    trainer = Trainer(max_epochs=1, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(Reinforce())
