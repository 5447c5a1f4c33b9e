"""Accumulation windows that an epoch does not fill."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any

from torch.optim import Optimizer

from lightning_debugkit.core.finding import Finding, Severity, Where
from lightning_debugkit.core.rule import Rule

WINDOW = Rule("accumulation-window", Severity.WARNING, "{told}", "{remedy}", section="optimization")

# Lightning steps on the last batch of an epoch, full window or not, and divides each loss by the whole window.
_LIGHT = 0.5  # a last window of less than half its batches ...
_FEW = 4  # ... weighs too little where it is one of at most so many steps of an epoch: a choice, not a law
_DIVIDES = {"betas", "alpha", "rho", "beta2", "lr_decay"}  # options of optimizers that divide by the gradient's size


def unfilled(where: Where, window: int, batches: float, optimizers: Iterable[Optimizer]) -> Iterator[Finding]:
    """Yield the finding for a window that an epoch never fills, or whose last one is a small part of its steps.

    Args:
        window: Batches that ``accumulate_grad_batches`` puts together.
        batches: Batches of an epoch; infinite if not known.
        optimizers: Of the run; those that divide by the size of gradients care less for their scale.
    """
    if window <= 1 or not math.isfinite(batches) or batches < 1:
        return
    count, rest = int(batches), int(batches) % window
    facts: dict[str, Any] = {
        "window": window,
        "batches": count,
        "last": rest or window,
        "factor": window / (rest or window),
    }
    if count < window:
        told = (
            f"the accumulation window is never full: an epoch has {count} of its {window} batches, and gradients are "
            f"{window / count:.3g} times too small{_divided(optimizers)}"
        )
        remedy = (
            f"Set accumulate_grad_batches to {count} or less: Lightning steps at the end of each epoch, but divides by "
            f"{window} all the same."
        )
        yield WINDOW.found(where, told=told, remedy=remedy, **facts)
    elif 0 < rest < _LIGHT * window and math.ceil(count / window) <= _FEW:
        told = (
            f"the last accumulation window of each epoch holds {rest} of {window} batches, and its gradients are "
            f"{window / rest:.3g} times too small{_divided(optimizers)}: 1 of {math.ceil(count / window)} steps"
        )
        remedy = (
            f"Let the window divide the {count} batches of an epoch, or leave out the rest with "
            f"limit_train_batches={count - rest}: Lightning steps on the last batch, but divides by {window}."
        )
        yield WINDOW.found(where, told=told, remedy=remedy, **facts)


def _divided(optimizers: Iterable[Optimizer]) -> str:
    names = [type(o).__name__ for o in optimizers if any(_DIVIDES & set(group) for group in o.param_groups)]
    return f" ({names[0]} divides by their size; weight decay, eps and clipping do not)" if names else ""
