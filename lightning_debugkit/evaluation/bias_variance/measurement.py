"""What is measured: the classification error, a torchmetrics metric, or a metric that the module logs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics import Metric

from lightning_debugkit.core.compat import LightningModule
from lightning_debugkit.evaluation.bias_variance import error_counts, logged_metric, metric_estimate
from lightning_debugkit.evaluation.bias_variance.error_counts import ErrorCounts, Method
from lightning_debugkit.evaluation.predictions.reader import PredictionReader, PredictionsNotFound
from lightning_debugkit.evaluation.predictions.readings import Reading, named_reading
from lightning_debugkit.evaluation.predictions.wrong_samples import NoClasses, cut_of, scored
from lightning_debugkit.stats.intervals import Interval

Rerun = Callable[[], Any]


@dataclass(frozen=True)
class Measured:
    """One metric over one set of samples."""

    interval: Interval  # its value, and the bounds that the samples leave open
    # samples and wrong samples of each class, `(2, classes)`, where that is known
    by_class: NDArray[np.int64] | None = None
    # whether each sample was wrong, in the order of the data, where that is known
    bits: NDArray[np.bool_] | None = None
    broken: int = 0  # samples whose predictions are not finite


@dataclass
class MeasuredAt:
    """What is known while a batch is looked at."""

    step: str
    module: LightningModule
    outputs: Any
    batch: Any
    counted: Tensor | None
    places: Tensor | None
    rerun: Rerun | None


class Taken(Protocol):
    """Looks at the batches of one set of samples."""

    def begin(self, step: str, module: LightningModule, batch: Any) -> None:
        """Get ready before the step of a batch."""

    def end(self, moment: MeasuredAt) -> None:
        """Take up the batch that has run."""

    def stop(self) -> None:
        """Leave the module without instruments; may be called at any time."""

    def payload(self) -> Any:
        """Return what was seen, to be merged with that of other ranks."""


class ReadingTake:
    """Has the reader find predictions and targets."""

    def __init__(self, reader: PredictionReader) -> None:
        self.reader = reader

    def begin(self, step: str, module: LightningModule, batch: Any) -> None:
        self.reader.begin(step, module)

    def read(self, moment: MeasuredAt) -> Reading:
        return self.reader.read(moment.step, moment.module, moment.outputs, moment.batch, moment.rerun)

    def stop(self) -> None:
        self.reader.release()


class ErrorTake(ReadingTake):
    """Count wrong answers."""

    def __init__(self, reader: PredictionReader, group: str | None) -> None:
        super().__init__(reader)
        self.group = group
        self.tally = ErrorCounts()
        self.cut: float | None = None

    def end(self, moment: MeasuredAt) -> None:
        found = self.read(moment)
        if self.cut != 0.0:  # once a score lies outside of 0 to 1, scores are logits
            self.cut = cut_of(found.predictions, found.target, found.places[0])
        try:
            answers = scored(found.predictions, found.target, self.cut, found.ignore_index)
        except NoClasses as error:
            raise PredictionsNotFound(
                f"{self.reader.owner} needs classes for metric 'error', got {error} (from {found.origin}); "
                "give a metric that fits, such as metric=torchmetrics.MeanAbsoluteError(), or an adapter."
            ) from error
        groups = None
        if self.group is not None:
            held = named_reading(moment.batch, (self.group,)) or named_reading(moment.outputs, (self.group,))
            if held is None:
                raise PredictionsNotFound(
                    f"{self.reader.owner} needs group to name an entry of the batch, got {self.group!r}; "
                    "put the group of each sample there."
                )
            groups = held[1]
        self.tally.add(answers, moment.counted, groups, moment.places)

    def payload(self) -> Any:
        return self.tally.payload()


class MetricTake(ReadingTake):
    """Let a copy of a torchmetrics metric see predictions and targets."""

    def __init__(self, reader: PredictionReader, metric: Metric, rank: int) -> None:
        super().__init__(reader)
        self.tally = metric_estimate.MetricEstimate(metric, seed=rank)

    def end(self, moment: MeasuredAt) -> None:
        found = self.read(moment)
        self.tally.add(found.predictions, found.target, moment.counted)

    def payload(self) -> Any:
        return self.tally.payload()


class Measurement:
    """Makes what looks at a set of samples, and merges what all ranks saw."""

    def __init__(self, metric: str | Metric, reader: PredictionReader, group: str | None, method: Method) -> None:
        self.metric = metric  # `error`, a torchmetrics metric, or the name of a logged metric
        self.reader = reader
        self.group = group  # entry of the batch that says which samples belong together
        self.method = method

    def names(self, split: str) -> list[str]:
        """Return what the metric may be called when the module logs it for ``split``, none if it is not logged."""
        logged = isinstance(self.metric, str) and self.metric != "error"
        return logged_metric.names_for(str(self.metric), split) if logged else []

    def take(self, split: str, rank: int = 0) -> Taken:
        """Return what looks at the batches of ``split``."""
        if isinstance(self.metric, Metric):
            return MetricTake(self.reader, self.metric, rank)
        if names := self.names(split):
            return logged_metric.LoggedValues(names)
        return ErrorTake(self.reader, self.group)

    def merged(self, payloads: Sequence[Any], logged: Mapping[str, Any], split: str) -> Measured | None:
        """Return the metric over what all ranks saw, ``None`` if a rank saw nothing.

        Args:
            payloads: What each rank's `Taken` gives; ``None`` of a rank where it failed.
            logged: Metrics that Lightning has made of what was logged.
            split: Set of samples, for the names of logged metrics.
        """
        if any(payload is None for payload in payloads):
            return None
        if isinstance(self.metric, Metric):
            return Measured(metric_estimate.estimate_metric(payloads))
        if names := self.names(split):
            # Training data were run through the validation step: what Lightning holds under its name is not theirs.
            held = logged if split.startswith(("val", "test")) else {}
            value = next((held[name] for name in names if name in held), None)
            found = logged_metric.estimate_logged(payloads, value)
            return None if found is None else Measured(found)
        counts = error_counts.merged(payloads)
        if not counts.size:
            return None
        by_class = counts.by_class if counts.by_class.size and counts.clusters is None else None
        return Measured(counts.estimate(self.method), by_class, counts.bits, counts.broken)
