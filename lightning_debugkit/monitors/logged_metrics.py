"""What the user's own program logs: the validation loss and the metrics that anyone looks for first."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from lightning_debugkit.core.optimizer_steps import steps_taken
from lightning_debugkit.core.sampling import Thinning

_MOST = 64  # names: a figure shows a few, and a table no more


class LoggedMetrics:
    """Returns, at the end of a validation or an epoch, the values that it has logged, as far as can be told."""

    def __init__(self) -> None:
        self._last: dict[str, float] = {}
        self._occasion: dict[str, str] = {}  # at which a value is news, also where it is the one of before
        self._thinning = {"validation": Thinning(), "epoch": Thinning()}

    def record(self, callback: Any, trainer: Any, occasion: str) -> None:
        """Journal what the user logged, on the first rank; every rank looks, as a metric may gather when it is read."""
        with contextlib.suppress(Exception):  # of a metric of the user's, which Lightning reads next
            fresh = self.look(occasion, steps_taken(trainer), trainer.callback_metrics)
            if fresh and trainer.is_global_zero:
                callback.write(trainer, "measure", name="logged", value=fresh)

    def look(self, occasion: str, step: int, logged: Mapping[str, Any]) -> dict[str, float]:
        """Return what ``logged`` holds that has changed, or was news at this occasion before.

        Of a long run, at ever fewer occasions.

        Args:
            occasion: ``validation`` or ``epoch`` of a fit, or an ``evaluation`` by itself, which has ended.
            logged: Values by name; one read of each device is made.
        """
        if not logged or (occasion in self._thinning and not self._thinning[occasion].keeps(step)):
            return {}
        whole = {name: value for name, value in logged.items() if not _is_of_a_step(name, logged)}
        fresh = {
            name: value
            for name, value in _numbers(whole).items()
            if self._last.get(name) != value or self._occasion.get(name) == occasion
        }
        self._last.update(fresh)
        if occasion in self._thinning:  # of a fit, in which figures are drawn
            self._occasion = dict.fromkeys(fresh, occasion) | self._occasion
        return fresh


def _is_of_a_step(name: str, logged: Mapping[str, Any]) -> bool:
    """Tell whether a value logged of steps and of epochs is one of a step: the loss of each is drawn anyway."""
    return f"{name}_step" in logged or f"{name}_epoch" in logged or (name.endswith("_step") and name[:-5] in logged)


def _numbers(logged: Mapping[str, Any]) -> dict[str, float]:
    """Return the single numbers among some values.

    >>> _numbers({"acc": torch.tensor(0.5), "n": 3, "each": torch.ones(2), "text": "a"})
    {'n': 3.0, 'acc': 0.5}
    """
    found = {name: float(value) for name, value in logged.items() if isinstance(value, int | float)}
    by_device: dict[torch.device, dict[str, Tensor]] = {}
    for name, value in logged.items():
        if isinstance(value, Tensor) and value.numel() == 1 and not value.is_complex():
            by_device.setdefault(value.device, {})[name] = value.detach().reshape(()).float()
    for tensors in by_device.values():
        found |= dict(zip(tensors, torch.stack(list(tensors.values())).tolist(), strict=True))
    return dict(list(found.items())[:_MOST])
