"""Attributes of samplers and streams that a checkpoint takes along: plain ones, small enough to be no data."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import torch
from torch import Tensor

# Entries of one attribute that are kept, and of one that is a tensor: more are data, which is read and not written.
_ENTRIES, _NUMBERS = 10_000, 100_000


def is_unchanged(one: Any, other: Any) -> bool:
    """Tell whether two values are of one type and alike to the bit."""
    return type(one) is type(other) and pickle.dumps(one) == pickle.dumps(other)


def is_small(value: Any) -> bool:
    """Tell whether a value is of plain types and small."""
    return _entries(value, _ENTRIES) is not None


def _entries(value: Any, most: int) -> int | None:
    """Return how many entries a value has, ``None`` if they are more or of other types than `plain` takes."""
    if type(value) in (int, float, bool, str, type(None)):
        return 1 if not isinstance(value, str) or len(value) <= _ENTRIES else None
    if type(value) is Tensor:
        is_plain = value.layout is torch.strided and value.device.type == "cpu" and not value.requires_grad
        return max(1, value.numel()) if is_plain and value.numel() <= _NUMBERS else None
    if isinstance(value, np.generic) or type(value) is np.ndarray:
        return max(1, value.size) if value.dtype.kind in "biuf" and value.size <= _ENTRIES else None
    if type(value) not in (list, tuple, dict) or len(value) > most:
        return None
    inside = [*value, *value.values()] if isinstance(value, dict) else value
    total = 0
    for each in inside:
        entries = _entries(each, most - total)
        if entries is None:
            return None
        total += entries
    return total if total <= most else None
