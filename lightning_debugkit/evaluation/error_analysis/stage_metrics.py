"""Metric objects that hold more than the samples of one validation: shared between stages, or never reset."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torchmetrics import Metric
from torchmetrics.aggregation import BaseAggregator
from torchmetrics.utilities import dim_zero_cat, dim_zero_sum
from torchmetrics.wrappers.abstract import WrapperMetric

from lightning_debugkit.core.compat import forget_computed, reductions
from lightning_debugkit.core.finding import Finding, Where
from lightning_debugkit.core.shared_rules import METRIC_DISAGREES

_APART = 1e-3  # of the value: above what single precision leaves of a sum
_SAME = 1e-6


class StageMetrics:
    """What the module's metrics held before a stage, and what its own samples have added to them.

    Only metrics are judged whose states are sums or lists: then what was added is a difference, and their own
    ``compute`` says what that is worth, whatever the average, the threshold or ``top_k``.
    """

    def __init__(self) -> None:
        self._told: set[str] = set()
        self.renew()

    def renew(self) -> None:
        """Begin anew: another stage."""
        self._begun = False
        self._before: dict[str, tuple[Metric, int, dict[str, Any]]] = {}
        self._apart: dict[str, tuple[float, float, int]] = {}

    def begin(self, module: nn.Module) -> None:
        """Take note of what metrics hold, before the first batch and after the module's own resets."""
        if self._begun:
            return
        self._begun = True
        for name, metric in _metrics(module):
            if count := metric.update_count:
                self._before[name] = metric, count, {state: _size(held) for state, held in metric.metric_state.items()}

    def close(self) -> None:
        """Compute what metrics say of all that they hold, and of what the stage's batches have added."""
        for name, (metric, count, states) in self._before.items():
            if metric.update_count > count:
                try:
                    self._apart[name] = (*_values(metric, states), count)
                except Exception:  # a metric that cannot do with a part of what it holds: nothing is known
                    continue

    def findings(self, logged: Mapping[str, Any], where: Where, stage: str) -> Iterator[Finding]:
        """Yield, once each, the metrics whose logged value is not that of the stage's samples."""
        for metric, (value, own, before) in self._apart.items():
            if metric in self._told or abs(value - own) <= _APART * max(abs(value), abs(own)):
                continue
            names = [name for name, held in logged.items() if _is_value(held, value)]
            if names:
                self._told.add(metric)
                name = min(names, key=lambda name: name.startswith("train"))
                found: dict[str, Any] = {"logged": name, "value": value, "own": own, "metric": metric, "before": before}
                found["stage"] = "validation" if stage == "validate" else stage
                yield METRIC_DISAGREES.found(where.at(metric), **found)


def _metrics(module: nn.Module) -> Iterator[tuple[str, Metric]]:
    for name, part in module.named_modules():
        # The best of all epochs, a running sum or a window are meant to go on.
        if not isinstance(part, Metric) or isinstance(part, BaseAggregator | WrapperMetric):
            continue
        if all(reduce in (dim_zero_sum, dim_zero_cat) for reduce in reductions(part)):
            yield name, part


def _size(state: Any) -> Any:
    return state.detach().clone() if isinstance(state, Tensor) else len(state)


def _values(metric: Metric, before: Mapping[str, Any]) -> tuple[float, float]:
    """Return the metric of all it holds, and of what has come since; the metric itself is left alone."""
    whole, own = (copy.deepcopy(metric) for _ in range(2))
    for name, held in before.items():
        state = getattr(own, name)
        setattr(own, name, state - held if isinstance(state, Tensor) else state[held:])
    values = []
    for each in (whole, own):
        each.sync_on_compute = False
        forget_computed(each)
        with torch.no_grad():
            value = each.compute()
        if not isinstance(value, Tensor) or value.numel() != 1 or not math.isfinite(float(value)):
            raise ValueError("a metric of one number is needed")
        values.append(float(value))
    return values[0], values[1]


def _is_value(held: Any, value: float) -> bool:
    return isinstance(held, Tensor) and held.numel() == 1 and abs(float(held) - value) <= _SAME * max(1.0, abs(value))
