"""Loaders that give batches once, and in later epochs none; steps that end each epoch as a loader does."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from lightning_debugkit.core.finding import Finding, Severity, Where
from lightning_debugkit.core.rule import Rule

EXHAUSTED = Rule(
    "loader-exhausted",
    Severity.WARNING,
    "the {stage} data{source} gave {batches} batches at first, and none in {empty}: its source can be read only once",
    "Give the loader something that starts again each time it is iterated over: a dataset, or a class whose "
    "__iter__ creates the generator; a generator or an iterator is used up after its first pass.",
    section="optimization",
)

_IN_STEP = (
    "training_step raised StopIteration in the first batch of {empty}: Lightning takes it for the end of the data, and "
    "the rest of the epoch is not trained"
)
_NEXT = "Look at what training_step calls next() on: make it anew when it is through, or give next() a default."

_TIMES = 2  # empty passes in a row, before the data are said to be through


@dataclass
class _Passes:
    batches: int = 0  # in the pass in progress
    most: int = 0  # in an earlier one
    empty: int = 0  # passes without any, in a row
    in_step: bool = False  # the last of them ended within a step


@dataclass
class EmptyEpochs:
    """Count the batches of each pass over the data of a stage."""

    passes: defaultdict[str, _Passes] = field(default_factory=lambda: defaultdict(_Passes))

    def begin(self, stage: str) -> None:
        """A pass over the data of ``stage`` begins."""
        self.passes[stage].batches = 0

    def is_first(self, stage: str) -> bool:
        """Tell whether no batch of the pass in progress is over yet."""
        return not self.passes[stage].batches

    def batch(self, stage: str) -> None:
        """Count a batch."""
        self.passes[stage].batches += 1

    def end(self, where: Where, stage: str, loaders: Any, in_step: bool = False) -> Iterator[Finding]:
        """Yield the finding when another pass was empty, though an earlier one was not.

        Args:
            in_step: The pass ended within a step, which has raised ``StopIteration``.
        """
        seen = self.passes[stage]
        seen.in_step = in_step
        seen.empty = 0 if seen.batches else seen.empty + 1
        seen.most = max(seen.most, seen.batches)
        if seen.most and seen.empty == _TIMES:
            yield self._found(where, stage, seen, loaders)

    def conclude(self, where: Where, stage: str, loaders: Any) -> Iterator[Finding]:
        """Yield the finding if the last pass of the fit was the first empty one."""
        seen = self.passes[stage]
        if seen.most and seen.empty == 1:
            yield self._found(where, stage, seen, loaders)

    def _found(self, where: Where, stage: str, seen: _Passes, loaders: Any) -> Finding:
        name = type(getattr(loaders, "dataset", loaders)).__name__
        what = "epoch" if stage == "training" else "validation"
        if seen.in_step:
            told = f"the last {seen.empty} epochs" if seen.empty > 1 else "the last epoch"
            return replace(EXHAUSTED, says=_IN_STEP, advice=_NEXT).found(where, empty=told)
        return EXHAUSTED.found(
            where,
            stage=stage,
            source=f" ({name})" if loaders is not None else "",
            batches=seen.most,
            empty=f"the last {seen.empty} {what}s" if seen.empty > 1 else f"the last {what}",
        )
