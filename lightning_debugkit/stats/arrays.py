"""Numbers of any make as numpy arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

Floats: TypeAlias = NDArray[np.float64]
Integers: TypeAlias = NDArray[np.int64]
Flags: TypeAlias = NDArray[np.bool_]
Numbers: TypeAlias = "NDArray[Any] | Tensor | Sequence[Any]"


def floats(values: Numbers) -> Floats:
    """Return ``values`` in double precision, on the host.

    >>> floats([1, 2])
    array([1., 2.])
    """
    return np.asarray(_on_host(values), dtype=np.float64)


def integers(values: Numbers) -> Integers:
    """Return whole numbers, such as counts and classes; ``ValueError`` where one is not whole.

    >>> integers([1.0, 2.0]).tolist()
    [1, 2]
    """
    found = np.asarray(_on_host(values))
    whole = found.astype(np.int64)
    if found.dtype.kind not in "biu" and not np.array_equal(whole, found):
        raise ValueError("integers needs whole numbers, such as counts or classes; got fractions.")
    return whole


def flags(values: Numbers) -> Flags:
    """Return truth values.

    >>> flags([0, 1]).tolist()
    [False, True]
    """
    return np.asarray(_on_host(values), dtype=np.bool_)


def _on_host(values: Numbers) -> Any:
    """Tensors of half precision are widened: numpy knows no bfloat16."""
    if not isinstance(values, Tensor):
        return values
    values = values.detach().cpu()
    return (values.double() if values.is_floating_point() else values).numpy()
