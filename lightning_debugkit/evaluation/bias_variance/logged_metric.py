"""A metric that the module logs itself: its value over a loader, and what the batches tell of its uncertainty."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor
from torchmetrics import Metric

from lightning_debugkit.core.compat import LightningModule, extract_batch_size
from lightning_debugkit.core.patching import StandIn
from lightning_debugkit.stats.bootstrap import bootstrap_groups
from lightning_debugkit.stats.intervals import Interval, bare_interval

_SPLITS = ("train", "valid", "validation", "val", "test")


class LoggedValues:
    """What a module logs under some names while it is listened to."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = names  # names that mean the metric; the first that is logged counts
        self.values: dict[str, list[tuple[Any, int]]] = {}
        self._size = 1
        self._standing: list[StandIn] = []

    def begin(self, step: str, module: LightningModule, batch: Any) -> None:
        """Begin to hear what is logged for ``batch``; what is logged is passed on."""
        self.stop()
        try:
            self._size = extract_batch_size(batch) if batch is not None else 1
        except Exception:  # no tensor in the batch: Lightning warns about that itself
            self._size = 1
        self._standing = [StandIn(module, "log", self._listener(module.log)).stand()]
        if "log_dict" in vars(module):  # one that is Lightning's calls log
            self._standing.append(StandIn(module, "log_dict", self._dict_listener(module.log_dict)).stand())

    def end(self, moment: Any) -> None:
        """Hear no more of a batch that has run."""
        self.stop()

    def stop(self) -> None:
        """Leave the module as it was; may be called at any time."""
        for each in self._standing:
            each.leave()
        self._standing = []

    def _listener(self, passed_on: Callable[..., Any]) -> Callable[..., None]:
        def log(name: str, value: Any, *args: Any, **kwargs: Any) -> None:
            __tracebackhide__ = True
            self._hear(name, value, kwargs.get("batch_size"))
            passed_on(name, value, *args, **kwargs)

        return log

    def _dict_listener(self, passed_on: Callable[..., Any]) -> Callable[..., None]:
        def log_dict(dictionary: Mapping[str, Any], *args: Any, **kwargs: Any) -> None:
            __tracebackhide__ = True
            for name, value in dictionary.items():
                self._hear(name, value, kwargs.get("batch_size"))
            passed_on(dictionary, *args, **kwargs)

        return log_dict

    def _hear(self, name: str, value: Any, batch_size: int | None) -> None:
        if name in self.names:
            self.values.setdefault(name, []).append((_kept(value), batch_size or self._size))

    def settle(self) -> None:
        """Keep the states of metric objects of now: they are about to be put back."""
        for name, held in self.values.items():
            value, size = held[-1]
            if isinstance(value, Metric):
                self.values[name] = [(_settled(value), size)]

    def payload(self) -> dict[str, Any]:
        """Return what was heard as plain data, to be merged with that of other ranks."""
        held = next((self.values[name] for name in self.names if self.values.get(name)), [])
        if held and isinstance(held[-1][0], Metric):
            # Of a metric that is still the module's own, Lightning has the value.
            settled = held[-1][0] if getattr(held[-1][0], "_settled", False) else None
            return {"metric": settled, "batches": []}
        return {"metric": None, "batches": [(float(value), size) for value, size in held]}


def estimate_logged(payloads: Sequence[dict[str, Any]], logged: Any = None) -> Interval | None:
    """Return the metric over all batches of all ranks, weighted by their sizes; ``None`` if it was never logged.

    Its interval takes batches as what was drawn. A metric object has one value and tells nothing of its uncertainty.

    Args:
        logged: The value that Lightning made of it, if nothing was heard.
    """
    batches = [pair for payload in payloads for pair in payload["batches"]]
    if batches:
        n = sum(size for _, size in batches)
        mean = sum(value * size for value, size in batches) / n
        if not math.isfinite(mean):
            return bare_interval(mean, n)
        found = bootstrap_groups([value * size for value, size in batches], [size for _, size in batches])
        return Interval(mean, found.low, found.high, n)
    metrics = [payload["metric"] for payload in payloads if payload["metric"] is not None]
    if metrics:
        for other in metrics[1:]:
            metrics[0].merge_state(other)
        return bare_interval(float(metrics[0].compute()))
    return None if logged is None else bare_interval(float(logged))


def names_for(name: str, split: str) -> list[str]:
    """Return what ``name`` may be called when it is logged for another split.

    >>> names_for("val_mae", "test")
    ['val_mae', 'test_mae', 'mae']
    >>> names_for("val/mae", "test")
    ['val/mae', 'test/mae', 'mae']
    """
    found = [name]
    for known in _SPLITS:
        if name.startswith((f"{known}_", f"{known}/", f"{known}.")):
            mark, rest = name[len(known)], name[len(known) + 1 :]
            found += [f"{split}{mark}{rest}", rest]
            break
    return list(dict.fromkeys(found))


def _kept(value: Any) -> Any:
    return value.detach().float().mean().item() if isinstance(value, Tensor) else value


def _settled(metric: Metric) -> Metric:
    copied = copy.deepcopy(metric).cpu()
    # Ranks are merged by their payloads: a collective here could wait for a rank that stumbled.
    copied.sync_on_compute = False
    copied._settled = True
    return copied
