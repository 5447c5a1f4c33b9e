"""Validation that looks at weights of before training, as an average does that has not begun."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn.parameter import is_lazy

from lightning_debugkit.core.compat import LightningModule, Trainer, callbacks_of
from lightning_debugkit.core.finding import Finding, Severity, Where
from lightning_debugkit.core.rule import Rule
from lightning_debugkit.stats.tensor_norms import some

UNTRAINED = Rule(
    "untrained-weights-validated",
    Severity.WARNING,
    "{what} of before training, not those that {steps} steps have trained{by}",
    "{remedy}",
    section="validation",
)

_PARAMETERS = 64  # that stand for the model
_ENTRIES = 16  # of each
_MOVES_BY = 5  # steps after which weights that train have moved


class Validated:
    """Compare some entries of the weights: as training began, as validation sees them, as training goes on."""

    def __init__(self) -> None:
        self._first: list[Tensor] = []
        self._names: list[str] = []
        self._begun = 0
        self._doubtful = False  # validation has just seen the weights of the begin
        self._moved = False  # by training, before validation

    def begin(self, where: Where, module: LightningModule, held: set[int]) -> None:
        """Keep a few entries of the weights that training starts from."""
        named = [(n, p) for n, p in module.named_parameters() if p.requires_grad and id(p) in held and not is_lazy(p)]
        stride = max(1, len(named) // _PARAMETERS)
        self._names = [name for name, _ in named[::stride]]
        self._first = [some(p, _ENTRIES) for _, p in named[::stride]]
        self._begun = where.step

    def validating(self, where: Where, module: LightningModule) -> None:
        """Look at the weights that validation is about to use."""
        # Weights that training has not moved yet, as at a rate of 0, are those that train.
        self._doubtful = self._moved and where.step > self._begun and self._is_first(module)

    def trained(self, where: Where, trainer: Trainer, module: LightningModule) -> Iterator[Finding]:
        """Yield the finding if validation saw the first weights, and those that train are others."""
        if not self._doubtful or self._is_first(module):
            return
        self._doubtful = False
        yield self._finding(where, trainer, "validation looked at the weights")

    def moved(self, where: Where, module: LightningModule) -> None:
        """Take note of whether training moves the weights, some steps after its begin."""
        if where.step == self._begun + _MOVES_BY:
            self._moved = self._moved or (bool(self._first) and not self._is_first(module))

    def conclude(self, where: Where, trainer: Trainer, module: LightningModule) -> Iterator[Finding]:
        """Yield the finding if the weights that the fit leaves are those of its begin."""
        if self._moved and self._is_first(module):
            found = self._finding(where, trainer, "the fit leaves the weights", Severity.ERROR)
            yield found

    def _finding(self, where: Where, trainer: Trainer, what: str, severity: Severity | None = None) -> Finding:
        callbacks = callbacks_of(trainer)
        names = [type(callback).__name__ for callback in callbacks]
        by = next((name for name in names if any(word in name for word in ("Averag", "EMA", "Ema"))), "")
        told = f": the average that {by} puts in their place has not begun" if by else ""
        remedy = "Look for code that swaps weights around validation: what it swaps in was never updated."
        if by:
            remedy = (
                f"Let {by} begin within the run (update_starting_at_step, update_starting_at_epoch), or leave it out."
            )
        return UNTRAINED.found(
            where, severity=severity, what=what, steps=where.step - self._begun, by=told, remedy=remedy, callback=by
        )

    def _is_first(self, module: LightningModule) -> bool:
        if not self._first:
            return False
        held = dict(module.named_parameters())
        if any(name not in held for name in self._names):
            return False
        same = []
        for name, first in zip(self._names, self._first, strict=True):
            now = some(held[name], _ENTRIES)
            if now.shape != first.shape or now.device != first.device or now.dtype != first.dtype:
                return False
            same.append((now == first).all())
        return bool(torch.stack([flag.to(same[0].device) for flag in same]).all())
