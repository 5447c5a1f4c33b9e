"""Functions that are named by a dotted path, as in YAML."""

from __future__ import annotations

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
    try:
        found = getattr(importlib.import_module(home), attribute)
    except (ImportError, AttributeError, ValueError):
        found = None
    if not callable(found):
        raise ValueError(f"function_at needs the dotted path of a function, got {path!r}; check the spelling.")
    return found  # type: ignore[no-any-return]
