"""Any torchmetrics metric over a loader, and how far its value could be off."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchmetrics import MeanAbsoluteError, MeanSquaredError, Metric
from torchmetrics.classification import MulticlassAccuracy, MulticlassCohenKappa, MulticlassF1Score, MulticlassRecall

from lightning_debugkit.stats.bootstrap import balanced_accuracy, bootstrap_confusion, cohen_kappa, macro_f1
from lightning_debugkit.stats.intervals import Interval, bare_interval, wilson
from lightning_debugkit.stats.running_mean import RunningMean

_KEPT = 2000  # samples remembered, a fair draw of all, for the bootstrap of metrics that know no shorter way
_REPLICATES = 200
_MOST_CLASSES = 1000


@dataclass
class MetricEstimate:
    """A copy of the metric that sees one set of samples, and what its interval is made of."""

    metric: Metric  # the user's metric; it is never updated itself
    seed: int = 0  # of the draw of samples that are remembered
    rows: int = 0
    moments: RunningMean = field(default_factory=RunningMean)
    confusion: Tensor | None = None

    def __post_init__(self) -> None:
        self.metric = copy.deepcopy(self.metric)
        self.metric.reset()
        # Each rank sees its share; they are merged by their payloads, not by the metric.
        self.metric.sync_on_compute = False
        self.kept: list[tuple[float, Tensor, Tensor]] = []
        self.draw = np.random.default_rng(self.seed)

    def add(self, predictions: Any, target: Any, counted: Tensor | None) -> None:
        """Take up a batch; ``counted`` says which samples count, all if ``None``."""
        if isinstance(predictions, Tensor) and isinstance(target, Tensor):
            predictions, target = predictions.detach(), target.detach()
            if counted is not None:
                keep = counted.to(target.device)
                predictions, target = predictions[keep], target[keep]
            if predictions.shape != target.shape and predictions.numel() == target.numel():
                predictions = predictions.reshape(target.shape)
            if not len(target):
                return
            self._remember(predictions, target)
            self.rows += len(target)
        self.metric = self.metric.to(target.device) if isinstance(target, Tensor) else self.metric
        self.metric.update(predictions, target)

    def _remember(self, predictions: Tensor, target: Tensor) -> None:
        if isinstance(self.metric, MeanAbsoluteError | MeanSquaredError):
            apart = (predictions.double() - target.double()).flatten(1 if target.ndim > 1 else 0)
            apart = apart.abs() if isinstance(self.metric, MeanAbsoluteError) else apart.square()
            self.moments = self.moments.merge(RunningMean.of(apart.mean(1) if apart.ndim > 1 else apart))
        elif _statistic(self.metric) is not None:
            self._count(predictions, target)
        else:
            self._draw(predictions, target)

    def _count(self, predictions: Tensor, target: Tensor) -> None:
        labels = predictions.argmax(1) if predictions.is_floating_point() else predictions
        size = int(self.metric.num_classes)  # type: ignore[arg-type]  # a plain attribute of these metrics
        if self.confusion is None:
            self.confusion = torch.zeros(size * size, dtype=torch.int64, device=target.device)
        cells = (target.long() * size + labels.long()).flatten()
        self.confusion.scatter_add_(0, cells, torch.ones_like(cells))

    def _draw(self, predictions: Tensor, target: Tensor) -> None:
        """Keep the samples with the smallest of random keys: a fair draw, whatever the order and the ranks."""
        keys = self.draw.random(len(target))
        bound = self.kept[-1][0] if len(self.kept) == _KEPT else 1.0
        rows = np.flatnonzero(keys < bound)
        if rows.size:
            chosen = torch.as_tensor(rows, device=target.device)
            few, theirs = predictions[chosen].cpu(), target[chosen].cpu()
            self.kept += [(keys[row], few[at], theirs[at]) for at, row in enumerate(rows)]
            self.kept = sorted(self.kept, key=lambda each: each[0])[:_KEPT]

    def payload(self) -> dict[str, Any]:
        """Return all that was seen, to be merged with that of other ranks."""
        confusion = None if self.confusion is None else self.confusion.cpu()
        metric = copy.deepcopy(self.metric).cpu()
        return {"metric": metric, "rows": self.rows, "moments": self.moments, "confusion": confusion, "kept": self.kept}


def estimate_metric(payloads: Sequence[dict[str, Any]]) -> Interval:
    """Return the metric over the samples of all ranks, with its interval.

    Mean absolute and squared errors have Student's interval of their per-sample values; macro F1, balanced accuracy and
    kappa a bootstrap of the confusion's cells; any other a bootstrap of the samples, at most 2,000 of which are drawn
    and its spread scaled to the number there are.
    """
    metric = payloads[0]["metric"]
    for payload in payloads[1:]:
        if payload["rows"]:
            metric.merge_state(payload["metric"])
    value = _number(metric)
    n = sum(payload["rows"] for payload in payloads)
    if math.isnan(value) or math.isinf(value) or not n:
        return bare_interval(value, n)
    found = _interval(metric, value, payloads)
    return Interval(value, found.low, found.high, n)


def _interval(metric: Metric, value: float, payloads: Sequence[dict[str, Any]]) -> Interval:
    if isinstance(metric, MeanAbsoluteError | MeanSquaredError):
        moments = RunningMean()
        for payload in payloads:
            moments = moments.merge(payload["moments"])
        found = moments.interval()
        if isinstance(metric, MeanSquaredError) and not metric.squared:
            return Interval(value, math.sqrt(max(found.low, 0.0)), math.sqrt(max(found.high, 0.0)))
        return found
    statistic = _statistic(metric)
    if statistic is not None:
        counts = sum(payload["confusion"] for payload in payloads if payload["confusion"] is not None)
        cells = counts.view(math.isqrt(counts.numel()), -1)
        found = bootstrap_confusion(cells, statistic)
        return found if found.high >= found.low else _flawless(value, cells.sum(1).tolist())
    return _resampled(metric, value, payloads)


def _flawless(value: float, samples: Sequence[int]) -> Interval:
    """Return the interval of a score without a mistake to draw again: each class could err as often as unseen.

    All classes at their bound at once is less than 95 % would ask for: it is wide rather than wrong.
    """
    open_ = [wilson(0, n).high for n in samples if n]
    return Interval(value, value - sum(open_) / len(open_), value) if open_ else bare_interval(value)


def _resampled(metric: Metric, value: float, payloads: Sequence[dict[str, Any]]) -> Interval:
    kept = sorted((each for payload in payloads for each in payload["kept"]), key=lambda each: each[0])[:_KEPT]
    n = sum(payload["rows"] for payload in payloads)
    if len(kept) < 2:
        return bare_interval(value, n)
    predictions, target = torch.stack([each[1] for each in kept]), torch.stack([each[2] for each in kept])
    fresh = copy.deepcopy(metric)
    draw, values = np.random.default_rng(0), []
    for _ in range(_REPLICATES):
        rows = torch.as_tensor(draw.integers(0, len(kept), len(kept)))
        fresh.reset()
        fresh.update(predictions[rows], target[rows])
        values.append(_number(fresh))
    if not np.isfinite(values).all():
        return bare_interval(value, n)
    if min(values) == max(values):
        return _without_spread(metric, value, n)
    # A draw of m samples spreads by sqrt(n / m) more than all n do.
    low, middle, high = np.quantile(values, [0.025, 0.5, 0.975]).tolist()
    scale = math.sqrt(len(kept) / n)
    return Interval(value, value + (low - middle) * scale, value + (high - middle) * scale)


def _without_spread(metric: Metric, value: float, n: int) -> Interval:
    """Return the interval of a metric at its best on all samples: it could be missed as often as unseen."""
    low, high = metric.plot_lower_bound, metric.plot_upper_bound
    if low is None or high is None or value not in (low, high):
        return bare_interval(value, n)
    off = (high - low) * wilson(0, n).high
    return Interval(value, value - off, value) if value == high else Interval(value, value, value + off)


def _statistic(metric: Metric) -> Any:
    """Return the statistic of the confusion that ``metric`` is, ``None`` if it is none of the known ones."""
    if getattr(metric, "ignore_index", None) is not None or not 0 < getattr(metric, "num_classes", 0) <= _MOST_CLASSES:
        return None
    if getattr(metric, "top_k", 1) != 1 or getattr(metric, "multidim_average", "global") != "global":
        return None
    if isinstance(metric, MulticlassCohenKappa):
        return cohen_kappa if metric.weights in (None, "none") else None
    if getattr(metric, "average", None) != "macro":
        return None
    if isinstance(metric, MulticlassF1Score):
        return macro_f1
    return balanced_accuracy if isinstance(metric, MulticlassAccuracy | MulticlassRecall) else None


def _number(metric: Metric) -> float:
    value = metric.compute()
    if not isinstance(value, Tensor) or value.numel() != 1:
        raise ValueError(
            f"BiasVarianceReport needs a metric of one number, got {type(metric).__name__}, which gives "
            f"{type(value).__name__}; choose an average."
        )
    return float(value)
