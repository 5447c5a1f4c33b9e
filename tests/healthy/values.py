"""Values learned from themselves: the loss rises in health, as the values it compares do."""

import copy

import torch
from lightning.pytorch import LightningModule
from torch import Tensor
from torch.nn import functional as F
from torch.optim import Adam, Optimizer

from healthy.parts import Program, loader, mlp, program

CELLS = 6


def walks(steps: int = 1600) -> list[Tensor]:
    """Moves in a ring of cells: where from, where to, and whether the walker fell, which ends the walk."""
    here = torch.randint(CELLS, (steps,))
    eye = torch.eye(CELLS)
    return [eye[here], eye[(here + 1) % CELLS], torch.rand(steps) < 0.03]


class Bootstrapped(LightningModule):
    """Each move earns one: a cell is worth that and what the next is worth, by a copy that is renewed now and then.

    A fall cannot be foreseen, and costs all that was to come: the more that is, the higher the loss.
    """

    def __init__(self, every: int, kept: float = 0.0) -> None:
        super().__init__()
        self.every, self.kept = every, kept
        self.value = mlp(CELLS, 32, 1)
        self.target = copy.deepcopy(self.value).requires_grad_(False)

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        here, there, fell = batch
        with torch.no_grad():
            wanted = 1 + 0.99 * self.target(there).squeeze(-1) * ~fell
        loss = F.mse_loss(self.value(here).squeeze(-1), wanted)
        self.log_dict({"loss": loss, "value": wanted.mean()})
        return loss

    def on_train_batch_end(self, *args: object) -> None:
        if self.global_step % self.every == 0:
            for own, theirs in zip(self.target.parameters(), self.value.parameters(), strict=True):
                own.data.mul_(self.kept).add_(theirs.data, alpha=1 - self.kept)

    def configure_optimizers(self) -> Optimizer:
        return Adam(self.value.parameters(), lr=1e-2)


@program
def values_with_a_target_network() -> Program:
    return Program(Bootstrapped(every=10), loader(*walks(), batch_size=32), trainer={"max_epochs": 10})


@program
def values_with_a_target_that_follows_slowly() -> Program:
    return Program(Bootstrapped(every=1, kept=0.95), loader(*walks(), batch_size=32), trainer={"max_epochs": 10})
