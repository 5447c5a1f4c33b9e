"""Loaders that give batches once, and in later epochs none; steps and hooks that end each epoch as a loader does."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from lightning_debugkit.core.compat import Trainer, steps_on_iterator
from lightning_debugkit.core.finding import Finding, Severity, Where
from lightning_debugkit.core.rule import Rule
from lightning_debugkit.replay.step_raised import RAISED

EXHAUSTED = Rule(
    "loader-exhausted",
    Severity.WARNING,
    "the {stage} data{source} gave {batches} batches at first, and none in {empty}: its source can be read only once",
    "Give the loader something that starts again each time it is iterated over: a dataset, or a class whose "
    "__iter__ creates the generator; a generator or an iterator is used up after its first pass.",
    section="optimization",
)

_ENDS = ", in the first batch of {empty}: Lightning takes it for the end of the data, and the rest is not trained"
_NEXT = (
    "Look at what it calls next() on: make it anew when it is through, or give next() a default. To end an epoch, "
    "on_train_batch_start returns -1."
)

_TIMES = 2  # empty passes in a row, before the data are said to be through


def who_raised(trainer: Trainer) -> str:
    """Return what ended the epoch by ``StopIteration`` in its last batch, empty if the loader did."""
    batch: Any = trainer.fit_loop.epoch_loop.batch_progress.current
    fetcher = trainer.fit_loop._data_fetcher
    if steps_on_iterator(trainer):
        return ""  # the step asks the loader itself
    if batch.ready > batch.completed:
        return "training_step" if batch.started > batch.processed else "on_train_batch_start"
    return "a hook of the batch's transfer" if not batch.ready and fetcher is not None and fetcher.fetched else ""


@dataclass
class _Passes:
    batches: int = 0  # in the pass in progress
    most: int = 0  # in an earlier one
    empty: int = 0  # passes without any, in a row
    raised: str = ""  # what ended the last of them by StopIteration, if not its loader


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

    def end(self, where: Where, stage: str, loaders: Any, raised: str = "") -> Iterator[Finding]:
        """Yield the finding when another pass was empty, though an earlier one was not.

        Args:
            raised: What ended the pass by ``StopIteration``; empty for its loader.
        """
        seen = self.passes[stage]
        seen.raised = raised
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
        if seen.raised:
            told = f"the last {seen.empty} epochs" if seen.empty > 1 else "the last epoch"
            words: dict[str, Any] = {"place": _ENDS.format(empty=told), "samples_text": "", "remedy": _NEXT}
            found = RAISED.found(where, severity=Severity.WARNING, who=seen.raised, error="StopIteration", **words)
            return replace(found, evidence={"exception": "StopIteration"})
        return EXHAUSTED.found(
            where,
            stage=stage,
            source=f" ({name})" if loaders is not None else "",
            batches=seen.most,
            empty=f"the last {seen.empty} {what}s" if seen.empty > 1 else f"the last {what}",
        )
