"""Functions that are named by a dotted path, as in YAML."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any


def function_at(path: str) -> Callable[..., Any]:
    """Return the function that a dotted path names.

    Raises:
        ValueError: There is none; the text says what of the path is missing.

    Example:
        >>> function_at("operator.add")(1, 2)
        3
    """
    home, _, attribute = path.replace(":", ".").rpartition(".")
    if not home:
        raise ValueError(f"{path!r} names no module, as in 'module.function'")
    try:
        module = importlib.import_module(home)
    except Exception as error:  # whatever the user's own module raises
        raise ValueError(f"module {home!r} cannot be imported ({type(error).__name__}: {error})") from error
    found: Callable[..., Any] | None = getattr(module, attribute, None)
    if not callable(found):
        raise ValueError(f"module {home!r} has no function {attribute!r}")
    return found
