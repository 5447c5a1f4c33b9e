"""Metrics that are computed after each pass over the data, and never reset between passes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from lightning_debugkit.core.compat import LightningModule, Metric, Trainer, computed_value
from lightning_debugkit.core.finding import Finding, Severity, Where
from lightning_debugkit.core.name_lists import listed
from lightning_debugkit.core.rule import Rule

NOT_RESET = Rule(
    "metric-not-reset",
    Severity.WARNING,
    "{module} ({kind}) is computed after each {what} but never reset: {logged} covers all {what}s so far, "
    "including {batches} batches of other weights",
    "Call self.{module}.reset() after compute(), or log the metric itself, self.log(name, self.{module}), which "
    "Lightning resets.",
    section="validation",
    cost="once",
)

SHARED = (
    "{names} is updated in training and in validation, and not reset between: what validation computes is of "
    "{batches} batches of training, too"
)
APART = "Give each stage a metric of its own, as by metric.clone(), and reset each after its compute()."

_TIMES = 2  # passes in a row that began with what was counted before
# What is meant to go on: extremes, sums and windows over the whole run.
_LASTING = ("MaxMetric", "MinMetric", "SumMetric", "CatMetric", "Running", "RunningMean", "RunningSum")


@dataclass
class _Begin:
    """A metric as a pass over the data begins; ``lasts``: it may be meant to go on over all passes of its stage."""

    name: str
    metric: Any
    updates: int
    value: Any
    lasts: bool


class MetricResets:
    """Compare what metrics have counted before the first batch of a pass with what they have after it."""

    def __init__(self) -> None:
        self.begun: dict[str, list[_Begin]] = {}  # by stage, up to the end of the pass's first batch
        self._times: dict[tuple[str, str], int] = {}  # by stage and metric
        self._in_training: set[str] = set()  # metrics that a batch of training updates
        self._mixed: list[_Begin] = []  # those that hold training, and were updated by the validation in progress
        self._shared = 0  # validations in a row that computed such ones

    def before_batch(self, module: LightningModule, stage: str) -> None:
        """Take the counts before the first batch of a pass."""
        self.begun[stage] = [
            _Begin(name, part, part.update_count, computed_value(part), _may_last(part, stage))
            for name, part in module.named_modules()
            if isinstance(part, Metric) and type(part).__name__ not in _LASTING
        ]

    def after_batch(self, where: Where, trainer: Trainer, stage: str) -> Iterator[Finding]:
        """Yield the metrics that this batch has added to what was computed of the passes before."""
        for begin in self.begun.pop(stage, []):
            name, key = begin.name, (stage, begin.name)
            is_updated = begin.metric.update_count > begin.updates
            if is_updated and stage == "training":
                self._in_training.add(name)
            elif is_updated and begin.updates and begin.value is None and name in self._in_training:
                self._mixed.append(begin)
            goes_on = begin.value is not None and is_updated and not begin.lasts
            self._times[key] = self._times.get(key, 0) + 1 if goes_on else 0
            if self._times[key] == _TIMES:
                logged = [key for key, value in trainer.callback_metrics.items() if _same(value, begin.value)]
                yield NOT_RESET.found(
                    where.at(name),
                    kind=type(begin.metric).__name__,
                    what="validation" if stage == "validation" else "epoch",
                    logged=logged[0] if logged else "its value",
                    batches=begin.updates,
                )

    def end_validation(self, where: Where) -> Iterator[Finding]:
        """Yield the metrics that were computed of batches of training and of validation together."""
        # Who only logs what forward returns, the value of one batch, computes nothing and resets nothing.
        mixed = [b for b in self._mixed if not b.metric.update_count or computed_value(b.metric) is not None]
        self._mixed = []
        self._shared = self._shared + 1 if mixed else 0
        if self._shared == _TIMES:
            names = listed([begin.name for begin in mixed])
            rule = replace(NOT_RESET, says=SHARED, advice=APART)
            yield rule.found(where.at(mixed[0].name), names=names, batches=mixed[0].updates)


def _may_last(metric: Metric, stage: str) -> bool:
    # A mean over all of training may be meant; over validations it mixes weights.
    return stage == "training" and type(metric).__name__ == "MeanMetric"


def _same(value: Any, computed: Any) -> bool:
    both = isinstance(value, Tensor) and isinstance(computed, Tensor) and value.numel() == computed.numel() == 1
    return both and float(value) == float(computed)
