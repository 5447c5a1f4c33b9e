"""Padding that a loss counts as a class: its targets are filled up where the sequences of the batch are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from lightning_debugkit.core.finding import Finding, Severity, Where
from lightning_debugkit.core.loss_functions import INDEX_LOSSES
from lightning_debugkit.core.rule import Rule
from lightning_debugkit.preflight.loss_calls import LossCall

# Of the targets, from which on padding weighs as much as a class of its own (a choice). Sequences of so many lengths
# in a batch are filled up, and do not end alike by nature.
SHARE = 0.2
LENGTHS = 3

PADDING_COUNTED = Rule(
    "padding-counted",
    Severity.WARNING,
    "{share:.0%} of the targets of {function} at {place} are padding, and the loss counts them: they are class {label} "
    "where a sequence of the batch is filled up, and nowhere else",
    "Pass ignore_index={label} to the loss, or fill the targets up with -100; leave padding out of metrics as well.",
    section="loss",
    cost="once",
)


def judge(calls: Sequence[LossCall], sequences: Sequence[Tensor], where: Where) -> Iterator[Finding]:
    """Yield each loss that counts targets which are padding.

    Args:
        sequences: Those of the batch, ids ``(N, S)`` or features ``(N, S, F)``.
    """
    filled = [(leaf, ends) for leaf in sequences if (ends := _filled_up(leaf)) is not None]
    for call in calls if filled else ():
        if call.function in INDEX_LOSSES and not call.target.is_floating_point():
            found = filter(None, (_label(call, leaf, ends) for leaf, ends in filled))
            for label, share in [*found][:1]:
                yield PADDING_COUNTED.found(where, label=label, share=share, **call.told)


def _label(call: LossCall, leaf: Tensor, ends: Tensor) -> tuple[int, float] | None:
    """Return the class that padding has in a loss, and its share, ``None`` if it has none of its own."""
    # Of what gives a fixed number of places, as a reader of number plates, the targets alone are filled up, and it has
    # to say so. Shifted by one, they are also what the network is given.
    if call.target.numel() == leaf.numel() and torch.equal(call.target.reshape(leaf.shape), leaf):
        return None
    return _counted(call, ends) or _counted(call, ends[:, 1:])


def _filled_up(leaf: Tensor) -> Tensor | None:
    """Return which entries ``(N, S)`` fill the rows up at one side, ``None`` if that is not certain."""
    values = leaf.detach()
    for side in (-1, 0) if values.numel() else ():
        blank = (values == 0).all(-1) if values.ndim > 2 else values == values[:, side].mode().values
        run = blank.flip(1).cumprod(1).flip(1) if side else blank.cumprod(1)
        lengths = len(run.sum(1).unique())
        kinds = values[~run.bool()].unique()
        if lengths >= LENGTHS and len(kinds) > 1 and bool((run == blank).all()):
            return run.bool()
    return None


def _counted(call: LossCall, padding: Tensor) -> tuple[int, float] | None:
    """Return the class that stands for padding ``(N, S)`` and for nothing else, and its share, if it is counted."""
    options, share = call.options, float(padding.float().mean())
    if call.target.numel() != padding.numel() or options.get("reduction") == "none" or share < SHARE:
        return None
    targets = call.target.reshape(padding.shape)
    label, weight = int(targets[padding][0]), options.get("weight")
    is_counted = label != options.get("ignore_index", -100) and (weight is None or bool(weight[label] != 0))
    return (label, share) if is_counted and torch.equal(targets == label, padding) else None
