"""How messages name many things, and parts of them."""

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

    >>> [operation_name(op) for op in ("aten.relu_.default", "aten._softmax.default", "gelu", "aten.lift_fresh")]
    ['relu', 'softmax', 'gelu', 'tensor']
    """
    name = op.removeprefix("aten.").partition(".")[0].strip("_")
    return "tensor" if name == "lift_fresh" else name


def plural(count: int, noun: str) -> str:
    """Return ``count`` with its noun.

    >>> plural(1, "step"), plural(96, "step")
    ('1 step', '96 steps')
    """
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def percent(share: float, digits: int = 1) -> str:
    """Return a share in percent, with so many digits at most, and more where they keep it apart from nothing and all.

    >>> [percent(share) for share in (0.0, 0.0312, 0.9394, 0.99997, 1.0)], percent(0.0312, digits=0), percent(-0.5)
    (['0 %', '3.1 %', '93.9 %', '99.997 %', '100 %'], '3 %', '-50 %')
    """
    for places in range(digits, digits + 4):
        said = f"{100 * share:.{places}f}"
        if not 0 < share < 1 or float(said) not in (0.0, 100.0):
            break
    return (said.rstrip("0").rstrip(".") if "." in said else said) + " %"


def begun(text: str) -> str:
    """Return ``text`` with a large first letter, but for a name of code.

    >>> begun("look at its input"), begun("cross_entropy applies softmax itself"), begun("")
    ('Look at its input', 'cross_entropy applies softmax itself', '')
    """
    is_name = any(sign in text.partition(" ")[0].rstrip(".,:;") for sign in "_.(=")
    return text if is_name else text[:1].upper() + text[1:]
