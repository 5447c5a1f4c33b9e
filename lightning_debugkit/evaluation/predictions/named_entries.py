"""Entries that are found by name, however deep they lie: `color`, or with the way to them, `logits.color`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from torch import Tensor

from lightning_debugkit.core.step_hooks import is_detections
from lightning_debugkit.evaluation.predictions.readings import is_rows

Way: TypeAlias = tuple[str | int, ...]
Place: TypeAlias = tuple[str, Any]  # such as ("validation_step()", what it returned)

_DEEP = 4
_LISTED = 12


class Ambiguous(ValueError):
    """A name is that of several entries; the message says where they are and how to name one of them."""


def named_in(places: Sequence[Place], name: str, taken: Any = None) -> tuple[str, Any] | None:
    """Return the entry of a name and its place in words, from the first of the places that has it.

    Args:
        places: Where to look, in this order.
        name: Name of the entry, or the way to it with dots: ``logits.color``, ``1.color``.
        taken: An entry that is something else already.

    Raises:
        Ambiguous: A place has several that are equally deep.

    >>> named_in([("step()", {"loss": 1}), ("batch", [0, {"color": [1, 2]}])], "color")
    ("batch[1]['color']", [1, 2])
    """
    for place, held in places:
        found = _named(held, name, taken)
        if len(found) > 1:
            told = ", ".join(place + _told(way) for way, _ in found)
            ways = " or ".join(repr(_dotted(way)) for way, _ in found)
            raise Ambiguous(f"{name!r}, which may be {told}; write {ways}")
        if found:
            return place + _told(found[0][0]), found[0][1]
    return None


def names_of(held: Any) -> Iterator[tuple[str, str, Tensor]]:
    """Yield name, place in words and value of the tensors that have a name and a row for each sample.

    A name that several have comes with the way to each.

    >>> import torch
    >>> [(name, place) for name, place, _ in names_of([torch.zeros(2), {"color": torch.zeros(2)}])]
    [('color', "[1]['color']")]
    """
    found = [(way, value) for way, value in _entries(held) if is_rows(value) and isinstance(way[-1], str)]
    last = [way[-1] for way, _ in found]
    for way, value in found:
        yield str(way[-1]) if last.count(way[-1]) == 1 else _dotted(way), _told(way), value


def listed_entries(places: Sequence[Place]) -> str:
    """Return which names there are, in words.

    >>> import torch
    >>> listed_entries([("forward()", {"color": torch.zeros(2, 3)}), ("batch", [])])
    "'color' in forward(), none in batch"
    """
    told = []
    for place, held in places:
        names = [repr(name) for name, _, _ in names_of(held)]
        more = [f"{len(names) - _LISTED} more"] if len(names) > _LISTED else []
        told.append(f"{', '.join([*names[:_LISTED], *more]) or 'none'} in {place}")
    return ", ".join(told)


def _named(held: Any, name: str, taken: Any) -> list[tuple[Way, Any]]:
    """Return the entries of a name that lie least deep; a way with dots leads to one."""

    def fits(value: Any) -> bool:
        return value is not taken and _may_be_answers(value)

    for way in ((name,), tuple(int(part) if part.isdigit() else part for part in name.split("."))):
        if fits(value := _at(held, way)):
            return [(way, value)]
    same = [(way, value) for way, value in _entries(held) if name in (way[-1], _dotted(way)) and fits(value)]
    least = min((len(way) for way, _ in same), default=0)
    return [(way, value) for way, value in same if len(way) == least]


def _at(held: Any, way: Way) -> Any:
    for part in way:
        if isinstance(held, Mapping):
            held = held.get(part, held.get(str(part)))
        elif isinstance(part, int):
            held = held[part] if isinstance(held, tuple | list) and part < len(held) else None
        else:
            # Tensors and lists have attributes, too, which nobody means.
            held = None if isinstance(held, Tensor | list) else getattr(held, part, None)
    return held


def _entries(held: Any) -> Iterator[tuple[Way, Any]]:
    """Yield the entries of mappings, sequences and objects, those that lie least deep first."""
    waiting: list[tuple[Way, Any]] = [((), held)]
    for way, each in waiting:
        if way:
            yield way, each
        if len(way) < _DEEP and not is_detections(each):
            waiting += [((*way, part), value) for part, value in _inside(each)]


def _inside(held: Any) -> list[tuple[str | int, Any]]:
    if isinstance(held, Mapping):
        return [(name, value) for name, value in held.items() if isinstance(name, str | int)]
    if isinstance(held, tuple | list):
        fields = getattr(held, "_fields", range(len(held)))
        return [(part, value) for part, value in zip(fields, held, strict=True) if not isinstance(value, str | int)]
    known = getattr(held, "__dict__", {}) if not isinstance(held, Tensor) and not callable(held) else {}
    return [(name, value) for name, value in known.items() if isinstance(value, Tensor) and name[:1] != "_"]


def _may_be_answers(value: Any) -> bool:
    """Tell whether a value can be one answer a sample; a loss that has the name of its head is none."""
    one = value is None or isinstance(value, Mapping | str | int | float) or callable(value)
    return not one and (not isinstance(value, Tensor) or value.ndim > 0)


def _told(way: Way) -> str:
    return "".join(f"[{part!r}]" for part in way)


def _dotted(way: Way) -> str:
    return ".".join(map(str, way))
