"""How messages name many things."""

from __future__ import annotations

from collections.abc import Sequence


def listed(names: Sequence[str], most: int = 3, of: int | None = None) -> str:
    """Return the first of ``names`` and how many more there are, of so many in all if not all are given.

    >>> listed(["a", "b", "c", "d", "e"]), listed(["a", "b"], of=7)
    ('a, b, c and 2 more', 'a, b and 5 more')
    """
    shown = names[:most]
    rest = (len(names) if of is None else of) - len(shown)
    return ", ".join(shown) + (f" and {rest:,} more" if rest > 0 else "")


def operation_name(op: str) -> str:
    """Return an operation as a program calls it, however torch's dispatcher does.

    >>> [operation_name(op) for op in ("aten.relu_.default", "aten._softmax.default", "gelu")]
    ['relu', 'softmax', 'gelu']
    """
    return op.removeprefix("aten.").partition(".")[0].strip("_")


def plural(count: int, noun: str) -> str:
    """Return ``count`` with its noun.

    >>> plural(1, "step"), plural(96, "step")
    ('1 step', '96 steps')
    """
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def begun(text: str) -> str:
    """Return ``text`` with a large first letter, but for a name of code.

    >>> begun("look at its input"), begun("cross_entropy applies softmax itself"), begun("")
    ('Look at its input', 'cross_entropy applies softmax itself', '')
    """
    is_name = any(sign in text.partition(" ")[0].rstrip(".,:;") for sign in "_.(=")
    return text if is_name else text[:1].upper() + text[1:]
