"""How messages name many things."""

from __future__ import annotations

from collections.abc import Sequence


def listed(names: Sequence[str], most: int = 3) -> str:
    """Return the first of ``names`` and how many more there are.

    Example:
        >>> listed(["a", "b", "c", "d", "e"])
        'a, b, c and 2 more'
    """
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest} more" if rest > 0 else "")


def plural(count: int, noun: str) -> str:
    """Return ``count`` with its noun.

    Example:
        >>> plural(1, "step"), plural(96, "step")
        ('1 step', '96 steps')
    """
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
