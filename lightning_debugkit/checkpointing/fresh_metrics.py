"""Which logged values belong to these very weights, and not to those of an earlier validation."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

from torch import Tensor

Key = tuple[int, int]


class FreshMetrics:
    """Tells values that were logged since the last look from those that only still stand there.

    ``Trainer.callback_metrics`` holds every value until it is logged again. A new one is another tensor.
    """

    def __init__(self) -> None:
        self._seen: dict[str, Any] = {}

    def look(self, logged: Mapping[str, Any]) -> dict[str, float]:
        """Return the values that are new, as numbers."""
        fresh = {}
        for name, value in logged.items():
            if name not in self._seen or not _is_same(self._seen[name], value):
                with contextlib.suppress(TypeError, ValueError, RuntimeError):  # what is no number cannot be ranked
                    fresh[name] = float(value)
        # The tensors are held, so that no new one can take the place of an old one in memory.
        self._seen = {name: (value, _version(value)) for name, value in logged.items()}
        return fresh


def _version(value: Any) -> int:
    return value._version if isinstance(value, Tensor) and not value.is_inference() else 0


def _is_same(seen: Any, value: Any) -> bool:
    before, version = seen
    if isinstance(before, Tensor) and isinstance(value, Tensor):
        return before.data_ptr() == value.data_ptr() and version == _version(value)
    return before is value
