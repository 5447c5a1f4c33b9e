"""A checksum of a batch, or of a loader's state: are two the same?"""

from __future__ import annotations

import zlib
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from lightning_debugkit.data.batches import leaves

# Leaves of a batch, and rows and values of each, that a fingerprint is made of.
_LEAVES, _ROWS, _VALUES = 32, 8, 64


def fingerprint(batch: Any, whole: bool = False) -> int | None:
    """Return a checksum of some values of a batch on the host, or of all; ``None`` if nothing in it can be read.

    >>> fingerprint([torch.arange(3), "a"]) == fingerprint([torch.arange(3), "a"])
    True
    >>> fingerprint([torch.arange(3), "a"]) == fingerprint([torch.arange(1, 4), "a"])
    False
    >>> fingerprint([object()]) is None
    True
    """
    checksum, known = 0, False
    every = (leaf for _, leaf in leaves(batch))
    for value in every if whole else islice(every, _LEAVES):
        part = _bytes(value, whole)
        if part is not None:
            checksum, known = zlib.crc32(part, checksum), True
    return checksum if known else None


def _bytes(value: Any, whole: bool) -> bytes | None:
    if isinstance(value, Tensor):
        if value.device.type != "cpu" or value.layout is not torch.strided or value.is_nested:
            return None
        part = value.detach()
        if not whole:
            part = part[:_ROWS] if part.ndim else part
            while part.ndim > 1 and len(part) and part[0].numel() >= _VALUES:
                part = part[0]  # of rows that lie scattered, all would be copied
            part = part.reshape(-1)[:_VALUES]
        return part.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
    if hasattr(value, "tobytes") and hasattr(value, "dtype"):  # of numpy
        if value.dtype.hasobject:
            return None
        part = value[:_ROWS].reshape(-1)[:_VALUES] if value.ndim and not whole else value
        return bytes(part.tobytes())
    if isinstance(value, str | bytes | int | float | None):
        return repr(value if whole else value[:_VALUES] if isinstance(value, str | bytes) else value).encode(
            "utf-8", "backslashreplace"
        )
    return None
