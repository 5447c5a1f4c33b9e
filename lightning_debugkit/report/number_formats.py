"""Words for numbers, values and places: the same in every form of the report."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

NONFINITE = ("nan", "inf", "-inf")
_HUGE = 1e300
_MINUTE = 60


def as_number(value: Any) -> float | None:
    """Return ``value`` as a float, the journal's names of non-finite numbers included; ``None`` if it is none.

    >>> as_number("-inf"), as_number(3), as_number("three"), as_number(True)
    (-inf, 3.0, None, None)
    """
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return float(value) if not isinstance(value, int) or abs(value) < _HUGE else math.copysign(math.inf, value)
    return float(value) if isinstance(value, str) and value in NONFINITE else None


def as_int(value: Any, default: int = 0) -> int:
    """Return ``value`` if it is a whole number, else ``default``."""
    return value if isinstance(value, int) and not isinstance(value, bool) else default


def as_mapping(value: Any) -> Mapping[str, Any]:
    """Return ``value`` if it is a mapping, else an empty one."""
    return value if isinstance(value, Mapping) else {}


def as_list(value: Any) -> list[Any]:
    """Return ``value`` as a list: empty for ``None``, of one for a single value."""
    if value is None:
        return []
    return list(value) if isinstance(value, list | tuple) else [value]


def number(value: float) -> str:
    """Return a number as people write it, four digits at most.

    >>> [number(value) for value in (0.1 + 0.2, 2.0, 15873.4, 1e-5, float("nan"), 123456)]
    ['0.3', '2', '1.587e+04', '1e-05', 'nan', '123456']
    """
    return str(value) if isinstance(value, int) else format(float(value), ".4g")


def phrase(value: Any, most: int = 12) -> str:
    """Return any value of a journal in words, long ones cut.

    >>> phrase([9, 12]), phrase([[9, 12]]), phrase({"lr": 0.001}), phrase(None), phrase(range(40), most=2)
    ('9, 12', '(9, 12)', 'lr: 0.001', 'none', '0, 1, … (40 in all)')
    """
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        return number(value)
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping):
        return _listed([f"{key}: {phrase(item, most)}" for key, item in value.items()], most)
    return _listed([_item(item, most) for item in value], most) if isinstance(value, Iterable) else str(value)


def _item(value: Any, most: int) -> str:
    said = phrase(value, most)
    return f"({said})" if isinstance(value, list | tuple) else said


def _listed(items: list[str], most: int) -> str:
    if len(items) <= most:
        return ", ".join(items)
    return ", ".join([*items[:most], f"… ({len(items)} in all)"])


def duration(seconds: float) -> str:
    """Return a time span in its two largest units.

    >>> duration(12.34), duration(75), duration(7265)
    ('12.3 s', '1 min 15 s', '2 h 1 min')
    """
    if seconds < _MINUTE:
        return f"{seconds:.3g} s"
    minutes, rest = divmod(round(seconds), _MINUTE)
    return f"{minutes} min {rest} s" if minutes < _MINUTE else f"{minutes // 60} h {minutes % 60} min"


def sentence(text: str, most: int = 400) -> str:
    """Return ``text`` on one line, without its last period, cut if very long."""
    line = " ".join(text.split())
    line = line if line.endswith("...") else line.removesuffix(".")
    return cut(line, most)


def headline(text: str, most: int = 130) -> tuple[str, str]:
    """Return a message on one line, without its last period; if it is long, its first clauses and what follows.

    As many clauses as fit, one at least: names that stand before a colon say nothing alone.

    >>> headline("loss is inf: log(0)."), headline("8 samples cannot be learned: the loss stays; see it", most=40)
    (('loss is inf: log(0)', ''), ('8 samples cannot be learned', 'the loss stays; see it'))
    >>> headline("a.weight, b.weight: no gradient: none is asked for", most=40)
    ('a.weight, b.weight: no gradient', 'none is asked for')
    >>> headline("64 of 64 are copies (100 %; 256 looked at): the score is learned by heart", most=40)
    ('64 of 64 are copies (100 %; 256 looked at)', 'the score is learned by heart')
    """
    line = sentence(text)
    if len(line) <= most:
        return line, ""
    ends = [found.start() for found in re.finditer(r"[:;] (?![^(]*\))", line)]  # not within brackets
    end = max((place for place in ends if place <= most), default=ends[0] if ends else len(line))
    return line[:end], line[end + 2 :]


def shortened(text: str, most: int) -> str:
    """Return ``text`` with its middle left out if it is longer than ``most``.

    >>> shortened("encoder.layers.11.weight", 13)
    'encode…weight'
    """
    half = (most - 1) // 2
    return text if len(text) <= most else f"{text[:half]}…{text[-half:]}"


def cut(text: str, most: int) -> str:
    """Return ``text`` with its end left out, behind a word if there is one, if it is longer than ``most``.

    >>> cut("sample 2 of 29", 13), cut("unbelievable", 6)
    ('sample 2 of…', 'unbel…')
    """
    if len(text) <= most:
        return text
    kept = text[:most].rpartition(" ")[0].rstrip()
    return (kept if len(kept) >= most // 2 else text[: most - 1].rstrip()) + "…"


def tail(text: str, most: int) -> str:
    """Return ``text`` with its beginning left out if it is longer than ``most``: the end tells layers apart.

    >>> tail("encoder.layers.11.weight", 13)
    '…11.weight'
    """
    if len(text) <= most:
        return text
    end = text[-(most - 1) :]
    return "…" + (end[end.index(".") + 1 :] if "." in end[: most // 2] else end)
