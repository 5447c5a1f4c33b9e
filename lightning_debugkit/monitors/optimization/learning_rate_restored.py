"""A learning rate that a resume took from the checkpoint though the program asks for another."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch.optim import Optimizer

from lightning_debugkit.core.compat import BaseFinetuning, StochasticWeightAveraging, Trainer, callbacks_of
from lightning_debugkit.core.finding import Finding, Severity, Where
from lightning_debugkit.core.optimizers import rate_of
from lightning_debugkit.core.rule import Rule

RESTORED = Rule(
    "learning-rate-restored",
    Severity.WARNING,
    "training goes on with the learning rate {taken:.3g} of the checkpoint; the program asks for {asked:.3g}",
    "If {asked:.3g} is meant, set it after the resume (for each group in on_train_start), or load the weights alone "
    "and begin a new fit; a resume restores the state of optimizers and schedulers.",
    section="learning-rate",
)

_EQUAL = 1e-6  # relative


class ResumedRates:
    """Compare the rates that the program asks for with those that a checkpoint brought."""

    def __init__(self) -> None:
        self.asked: list[float] = []
        self.before: list[float] = []  # what the program asked for in the run that wrote the checkpoint

    def asks(self, optimizers: Sequence[Optimizer]) -> None:
        """Take the rates of before anything of the optimizers is restored."""
        self.asked = _rates(optimizers)

    def judge(self, where: Where, trainer: Trainer) -> Iterator[Finding]:
        """Yield the finding where the rates that a checkpoint brought are others.

        A program that asks for the same as it did before the checkpoint has changed the rate by its own hand, and
        callbacks that thaw or average give groups of parameters rates of their own.
        """
        if trainer.ckpt_path is None or callbacks_of(trainer, BaseFinetuning, StochasticWeightAveraging):
            return
        taken = _rates(trainer.optimizers)
        if len(taken) != len(self.asked) or (self.before and _alike(self.before, self.asked)):
            return
        pairs = [(a, t) for a, t in zip(self.asked, taken, strict=True) if not _alike([a], [t])]
        if pairs:
            yield RESTORED.found(
                where, asked=pairs[0][0], taken=pairs[0][1], parameter_groups=len(pairs) if len(pairs) > 1 else None
            )


def _rates(optimizers: Sequence[Optimizer]) -> list[float]:
    # A scheduler notes the rate it began from.
    groups = [group for optimizer in optimizers for group in optimizer.param_groups]
    return [rate_of({"lr": group.get("initial_lr", group.get("lr"))}) for group in groups]


def _alike(some: Sequence[float], others: Sequence[float]) -> bool:
    return len(some) == len(others) and all(
        not abs(a - b) > _EQUAL * max(abs(a), abs(b)) for a, b in zip(some, others, strict=True)
    )
