"""Lists and counts of one's own that go on over all validations, though a metric of the last one is made of them."""

from __future__ import annotations

import functools
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import islice, permutations
from typing import Any

import torch
from torch import Tensor

from lightning_debugkit.core.compat import LightningModule, Trainer
from lightning_debugkit.core.finding import Finding, Where
from lightning_debugkit.monitors.metric_resets import NOT_RESET

Logged = Callable[[], dict[str, float]]

LIST = (
    "self.{name} is not emptied between validations: {logged} is the mean of all its {count} entries, {old} of which "
    "are of validations before this one, with other weights"
)
EMPTY = "Empty it where a validation begins: self.{name}.clear() in on_validation_epoch_start."
COUNTS = (
    "self.{name} and self.{other} are not set back between validations: {logged} is their ratio over all validations "
    "so far, {old:g} of {count:g} counted before this one, with other weights"
)
ZERO = "Set both to 0 where a validation begins, in on_validation_epoch_start; or use a torchmetrics.Metric."

_TIMES = 2  # one mean of a list, or ratio of two numbers, may be a metric by chance
_MOST = 16  # numbers that are looked at: each pair of them may be a ratio
_LONG = 1 << 20  # entries of a list
_SAME, _OTHER = 1e-5, 1e-4  # relative: what float32 leaves of a mean, and what cannot be it
_OF_EVERY_MODULE = frozenset(vars(LightningModule()))


class PlainTotals:
    """Compare what the module holds at the end of each validation with what was logged, and with what is new."""

    def __init__(self) -> None:
        self._lists: dict[str, tuple[int, int]] = {}  # length, and `id` of the first entry
        self._numbers: dict[str, float] = {}
        self._told: set[str] = set()
        self._times: Counter[tuple[str, ...]] = Counter()  # validations in a row that logged what is made of these

    def end_validation(self, where: Where, trainer: Trainer, module: LightningModule) -> Iterator[Finding]:
        """Yield the totals of which a metric is made that hold earlier validations, too."""

        @functools.cache  # metrics may lie on a device: they are read where there is a total to compare
        def logged() -> dict[str, float]:
            metrics = trainer.callback_metrics.items()
            return {name: float(value) for name, value in metrics if value.numel() == 1 and name not in self._told}

        lists = {name: value for name, value in _attributes(module) if isinstance(value, list) and value}
        numbers = dict(islice(_numbers(module), _MOST))
        for finding in (*self._of_lists(where, lists, logged), *self._of_counts(where, numbers, logged)):
            if finding.evidence["logged"] not in self._told:
                self._told.add(finding.evidence["logged"])
                yield finding
        self._lists = {name: (len(value), id(value[0])) for name, value in lists.items()}
        self._numbers = numbers

    def _of_lists(self, where: Where, lists: dict[str, list[Any]], logged: Logged) -> Iterator[Finding]:
        for name, entries in lists.items():
            old, first = self._lists.get(name, (0, 0))
            if not 0 < old < len(entries) <= _LONG or id(entries[0]) != first:
                continue
            means = zip(_means(entries), _means(entries[old:]), strict=False)
            found = next((found for whole, new in means if (found := _of(logged, whole, new))), "")
            if self._recurs(found, name):
                rule = replace(NOT_RESET, says=LIST, advice=EMPTY)
                yield rule.found(where.at(name), name=name, logged=found, count=len(entries), old=old)

    def _of_counts(self, where: Where, numbers: dict[str, float], logged: Logged) -> Iterator[Finding]:
        grown = [name for name, value in numbers.items() if 0 < self._numbers.get(name, 0) < value]
        for name, other in permutations(grown, 2):
            part, whole, old, before = numbers[name], numbers[other], self._numbers[name], self._numbers[other]
            found = _of(logged, part / whole, (part - old) / (whole - before))
            if self._recurs(found, name, other):
                rule = replace(NOT_RESET, says=COUNTS, advice=ZERO)
                yield rule.found(where.at(name), name=name, other=other, logged=found, count=whole, old=before)

    def _recurs(self, found: str, *names: str) -> bool:
        self._times[names] = self._times[names] + 1 if found else 0
        return self._times[names] == _TIMES


def _of(logged: Logged, whole: float, new: float) -> str:
    """Return the metric that is the one of all, perhaps in per cent, and not that of the last validation."""
    for name, value in logged().items():
        for scale in (1.0, 100.0):
            is_whole = math.isclose(value, scale * whole, rel_tol=_SAME)
            if is_whole and not math.isclose(value, scale * new, rel_tol=_OTHER):
                return name
    return ""


def _attributes(module: LightningModule) -> Iterator[tuple[str, Any]]:
    for name, value in vars(module).items():
        if name in _OF_EVERY_MODULE:
            continue
        yield name, value
        if type(value) is dict:
            yield from ((f"{name}[{key!r}]", part) for key, part in value.items())


def _numbers(module: LightningModule) -> Iterator[tuple[str, float]]:
    """Yield the attributes and buffers that are one number each."""
    buffers = module.named_buffers(recurse=False)
    for name, value in (*_attributes(module), *buffers):
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if is_number or (isinstance(value, Tensor) and not value.ndim and value.dtype is not torch.bool):
            yield name, float(value)


def _means(entries: Sequence[Any]) -> tuple[float, ...]:
    """Return the mean of all numbers in a list, and that of the means of its entries; none of what are no numbers."""
    if all(isinstance(entry, int | float) for entry in entries):
        return (sum(entries) / len(entries),)
    if not all(isinstance(entry, Tensor) and entry.ndim <= 1 and entry.numel() for entry in entries):
        return ()
    parts = [entry.detach().reshape(-1).double() for entry in entries]
    return float(torch.cat(parts).mean()), sum(float(part.mean()) for part in parts) / len(parts)
