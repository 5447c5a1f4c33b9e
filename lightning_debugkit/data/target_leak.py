"""The target among the inputs: one of them alone says what is to be learned."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lightning_debugkit.core.finding import Finding, Severity, Where
from lightning_debugkit.core.rule import Rule
from lightning_debugkit.data.near_duplicates import kinds_of

# So many samples in the same order twice: by chance one order in 50! (3e64) is.
SAMPLES = 50
# Of the correlation of a column with the target: what float32 leaves of the same numbers on another scale.
SAME = 1e-6
KINDS = 0.5  # share of different targets from which on they are numbers, no classes
EACH = 5  # samples of each class

TARGET_LEAK = Rule(
    "target-leak",
    Severity.WARNING,
    "{what}: the input contains the answer, so the score says nothing about data whose answer is not known",
    "{remedy}",
    on_data=True,
    section="data",
    cost="once",
)
_ITSELF = "{place} is {target} in all of the {seen} training samples that were looked at{scaled}"
_ORDER = "{place} puts all of the {seen} training samples that were looked at into the order of {target}"
_CLASS = "{place} has one value for each of the {classes} classes in all of the {seen} training samples"
_DROP = "Leave that column out of the inputs; look which other columns were made of the target."
_LATER = "Let the window end before its target: x[t - length : t] for the target x[t + horizon - 1]."


def judge(inputs: Tensor, shape: Sequence[int], targets: Tensor, where: Where) -> Iterator[Finding]:
    """Yield the entry of the input that is the target, or has its order.

    Args:
        inputs: Training samples ``(n, d)`` float32.
        shape: Of one sample: a row of a table or a window of a series; of other inputs nothing is said.
        targets: Their numbers ``(n, k)``.
    """
    count = min(len(inputs), len(targets))
    x, y = inputs[:count].double().numpy(), targets[:count].double().numpy()
    if count < SAMPLES or not 0 < len(shape) < 3 or x.shape[1] < 2 or not np.isfinite(y).all():
        return
    found = [_like(x, wanted, newest_values(shape)) for wanted in y.T]
    # Where several are predicted, each may be an input as in a reconstruction: all of them, and little else, is none.
    if any(each is None for each in found) or (len(found) > 1 and 2 * len(found) > x.shape[1]):
        return
    at, is_same, is_scaled = found[0]  # type: ignore[misc]  # none is None
    target = "the target" if len(found) == 1 else f"the first of {len(found)} targets, and others are the others"
    what = (_ITSELF if is_same else _ORDER).format(
        place=_named(at, shape), target=target, seen=count, scaled=", on another scale" if is_scaled else ""
    )
    yield TARGET_LEAK.found(where, what=what, remedy=_LATER if len(shape) > 1 else _DROP, entry=at, seen=count)


def judge_classes(inputs: Tensor, classes: NDArray[np.int64], where: Where) -> Iterator[Finding]:
    """Yield the column of a table ``(n, d)`` that is the class ``(n,)``, by whatever numbers."""
    count = min(len(inputs), len(classes))
    x, labels = inputs[:count].numpy(), classes[:count]
    kinds, named = np.unique(labels, return_inverse=True)
    if count < SAMPLES or x.shape[1] < 2 or len(kinds) < 2 or np.bincount(named).min() < EACH:
        return
    for at in np.flatnonzero(kinds_of(inputs[:count]) == len(kinds)).tolist():
        _, coded = np.unique(x[:, at], return_inverse=True)
        if len(np.unique(coded * len(kinds) + named)) == len(kinds):
            what = _CLASS.format(place=_named(at, x.shape[1:]), classes=len(kinds), seen=count)
            yield TARGET_LEAK.found(where, what=what, remedy=_DROP, entry=at, seen=count)
            return


def newest_values(shape: Sequence[int]) -> list[int]:
    """Return the entries in which a target may not lie: all of a row, the last step of a window, its longer dimension.

    To give back what was seen first is a task of its own for what remembers.

    >>> newest_values([3]), newest_values([2, 3]), newest_values([3, 1])
    ([0, 1, 2], [2, 5], [2])
    """
    places = torch.arange(int(np.prod(shape))).reshape(*shape)
    if len(shape) == 1:
        return places.tolist()
    return places.select(int(shape[1] >= shape[0]), -1).tolist()


def _like(x: NDArray[np.float64], wanted: NDArray[np.float64], places: Sequence[int]) -> tuple[int, bool, bool] | None:
    """Return the column that is like the target, whether it is the same, and whether on another scale."""
    if len(np.unique(wanted)) < KINDS * len(wanted):
        return None
    order = np.argsort(wanted, kind="stable")
    centred, goal = x - x.mean(0), wanted - wanted.mean()
    sizes = np.linalg.norm(centred, axis=0) * np.linalg.norm(goal)
    alike = np.abs(goal @ centred) / np.where(sizes > 0, sizes, np.inf)
    best = max(places, key=lambda at: alike[at])
    if alike[best] >= 1 - SAME:
        return best, True, not np.allclose(x[:, best], wanted, rtol=1e-5, atol=1e-8)
    for at in places:
        steps = np.diff(x[order, at])
        is_monotone = bool((steps >= 0).all() or (steps <= 0).all())
        if is_monotone and len(np.unique(x[:, at])) >= KINDS * len(wanted):
            return at, False, False
    return None


def _named(at: int, shape: Sequence[int]) -> str:
    if len(shape) == 1:
        return f"column {at} of the input"
    return f"entry {tuple(int(n) for n in np.unravel_index(at, tuple(shape)))} of the input"
