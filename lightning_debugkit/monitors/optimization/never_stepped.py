"""Optimizers that nobody steps: all of them, or one while others are stepped."""

from __future__ import annotations

from collections.abc import Iterator, Set

from lightning_debugkit.core.compat import LightningModule, Trainer
from lightning_debugkit.core.finding import Finding, Where
from lightning_debugkit.core.name_lists import listed
from lightning_debugkit.core.optimizers import held_by, raw
from lightning_debugkit.core.sharding import holds_whole_model
from lightning_debugkit.monitors.optimization.update_ratio import NOT_UPDATED
from lightning_debugkit.monitors.parameters.parameter_registration import common
from lightning_debugkit.stats.tensor_norms import values, versions

_OTHERS = 10  # steps of other optimizers, after which one that was never stepped is no matter of the start


def never_stepped(where: Where, module: LightningModule, passes: int, before: tuple[int, ...]) -> Iterator[Finding]:
    """Yield that backward has run so many times and no optimizer stepped, if the weights are left alone, too.

    Args:
        where: Place of now.
        module: The user's module.
        passes: Backward passes since the last step.
        before: Versions of its parameters early among them.
    """
    if versions(list(module.parameters())) == before:
        yield not_updated(where, [], passes, ": no optimizer has stepped")


def waiting(trainer: Trainer, module: LightningModule, stepped: Set[int], steps: int) -> list[str]:
    """Return parameters that hold a gradient, and whose optimizer was not stepped while others made so many steps."""
    still = [optimizer for optimizer in trainer.optimizers if id(raw(optimizer)) not in stepped]
    # Where none was, a scaler has skipped all, or what steps is not torch's.
    if steps < _OTHERS or len(still) == len(trainer.optimizers) or not holds_whole_model(trainer):
        return []
    held = held_by(still)
    fed = {name: p for name, p in module.named_parameters() if id(p) in held and p.requires_grad}
    return [name for name, p in fed.items() if p.grad is not None and bool(values(p.grad).any())]


def not_updated(where: Where, names: list[str], steps: int, why: str) -> Finding:
    """Return the finding for parameters, or without names for all, that no step has moved."""
    return NOT_UPDATED.found(
        where.at(common(names)) if names else where,
        names=listed(names) if names else "all parameters",
        weights="the weights",
        steps=steps,
        why=why,
        remedy="Call optimizer.step() (with the closure, where optimizer_step is overridden) after backward.",
        parameters=names,
    )
