"""Which samples of a batch cause a fault, found by running parts of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

# Tells whether these samples alone show the fault; None if they cannot be run alone.
Fails = Callable[[Sequence[int]], "bool | None"]


EVERY_ONE = "each single sample causes it"


class Exhausted(RuntimeError):
    """The runs allowed are used up."""


def culprits(fails: Fails, size: int, hint: Sequence[int] = (), max_runs: int = 64) -> tuple[list[int], str]:
    """Return the positions of the samples that cause a fault, and a note where there is something to say.

    Each sample that shows the fault alone is named; where none does, the smallest set found that does together.

    Args:
        hint: Samples whose numbers were seen to break; tried first.
        max_runs: Parts of the batch that may be run.

    >>> culprits(lambda part: 9 in part, 16)
    ([9], '')
    >>> culprits(lambda part: {2, 11} <= set(part), 16)
    ([2, 11], 'only together')
    """
    counted = _Counted(fails, max_runs)
    everything = list(range(size))
    try:
        if hint and len(hint) < size and (found := _confirmed(counted, list(hint), everything)):
            return found, ""
        if not counted(everything):
            return [], "the fault did not recur when the batch was run in parts"
        suspects = _suspects(counted, everything)
        found = [index for index in suspects if counted([index]) or _in_company(counted, index)]
        if (sound := counted.sound()) and 1 < len(found) <= counted.left:
            # To be alone may be what breaks a sample, as the only one of its class: so may others be that are innocent.
            found = [index for index in found if counted(sorted((*sound[0], index)))] or found
        if len(found) == size:
            return [], EVERY_ONE if size > 1 else ""
        if found:
            return found, ""
        if size > 2 and counted.has_run_part_of(size) and not counted.sound():
            return [], "every part of the batch that can be run causes it"
        together = _smallest(counted, everything)
    except Exhausted:
        return [], f"not narrowed down within {max_runs} runs of parts of the batch"
    if len(together) == size:
        refused = "parts of the batch cannot be run alone" if counted.refused else "only the whole batch causes it"
        return [], refused
    return together, "only together"


class _Counted:
    def __init__(self, fails: Fails, max_runs: int) -> None:
        self.fails, self.left, self.refused = fails, max_runs, False
        self.known: dict[tuple[int, ...], bool | None] = {}

    def __call__(self, part: Sequence[int]) -> bool | None:
        key = tuple(part)
        if key not in self.known:
            if not self.left:
                raise Exhausted
            self.left -= 1
            self.known[key] = self.fails(part) if part else False
            self.refused |= self.known[key] is None
        return self.known[key]

    def has_run_part_of(self, size: int) -> bool:
        return any(failed is not None and 0 < len(part) < size for part, failed in self.known.items())

    def sound(self) -> list[tuple[int, ...]]:
        """Return the parts that ran without the fault, largest first."""
        return sorted((part for part, failed in self.known.items() if part and failed is False), key=len, reverse=True)


def _confirmed(fails: _Counted, hint: list[int], everything: list[int]) -> list[int]:
    """Return the hint if its samples show the fault, or if the batch is sound without them."""
    tried = hint[:16]
    alone = [index for index in tried if fails([index])]
    if alone:
        return hint if len(alone) == len(tried) else alone if tried == hint else []
    rest = [index for index in everything if index not in set(hint)]
    # A single sample may not run alone (batch norm): then the rest being sound convicts.
    sound_without = fails(rest) is False and fails(everything)
    return (_smallest(fails, hint) if fails(hint) else hint) if sound_without else []


def _suspects(fails: _Counted, part: list[int]) -> list[int]:
    """Return, by halving, the samples of ``part`` that show the fault by themselves or cannot be run by themselves.

    A part that cannot be run, as where a size is fixed, says nothing of its samples.
    """
    failed = fails(part)
    if len(part) == 1:
        return part if failed or failed is None else []
    if failed is False:
        return []
    half = len(part) // 2
    return _suspects(fails, part[:half]) + _suspects(fails, part[half:])


def _in_company(fails: _Counted, index: int) -> bool:
    """Tell whether a sample that cannot be run alone, as with batch norm, breaks a part that is sound without it."""
    if fails([index]) is not None:
        return False
    company = next((part for part in fails.sound() if index not in part), None)
    return company is not None and bool(fails(sorted((*company, index))))


def _smallest(fails: _Counted, part: list[int]) -> list[int]:
    """Return a subset that fails and of which no smaller part does; delta debugging (Zeller, Hildebrandt, 2002)."""
    pieces = 2
    while len(part) > 1:
        width = -(-len(part) // pieces)
        chunks = [part[start : start + width] for start in range(0, len(part), width)]
        rests = [[index for index in part if index not in set(chunk)] for chunk in chunks]
        smaller = next((some for some in (*chunks, *rests) if len(some) < len(part) and fails(some)), None)
        if smaller is not None:
            part, pieces = smaller, 2
        elif pieces >= len(part):
            break
        else:
            pieces = min(len(part), 2 * pieces)
    return part
