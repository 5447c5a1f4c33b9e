"""Functions that are named by a dotted path, as in YAML."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable
from typing import Any


def function_at(path: str) -> Callable[..., Any]:
    """Return the function that a dotted path names.

    Raises:
        ValueError: There is none.

    Example:
        >>> function_at("operator.add")(1, 2)
        3
    """
    home, _, attribute = path.replace(":", ".").rpartition(".")
    found: Callable[..., Any] | None = None
    with contextlib.suppress(ImportError, AttributeError, ValueError):
        found = getattr(importlib.import_module(home), attribute)
    if not callable(found):
        raise ValueError(f"function_at needs the dotted path of a function, got {path!r}; check the spelling.")
    return found
