"""What a step that raised an error tells: whether a number had broken before, and the user's line."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import FrameType
from typing import Any

from torch import Tensor

from lightning_debugkit.data.batches import leaves
from lightning_debugkit.replay.source_lines import SourceLine, is_own, is_users, module_of
from lightning_debugkit.replay.trace import Born, Trace, first_born

# Errors that say that a number is not finite, or that follow from such a number alone.
_ABOUT_NUMBERS = re.compile(r"\bnans?\b|\binf(s|inity|inite)?\b|non-?finite|finite|diverged|exploded|overflow", re.I)
_LONGEST = 300  # characters of an error


def about_numbers(error: BaseException) -> bool:
    """Tell whether an error says that a number is not finite.

    >>> about_numbers(ValueError("loss became NaN")), about_numbers(ValueError("information is missing"))
    (True, False)
    """
    return isinstance(error, ArithmeticError) or _ABOUT_NUMBERS.search(f"{type(error).__name__}: {error}") is not None


def in_a_line(error: BaseException) -> str:
    """Return type and message of an error in one line.

    >>> in_a_line(AssertionError()), in_a_line(IndexError("Target 7\\n is out of bounds."))
    ('AssertionError', 'IndexError: Target 7 is out of bounds.')
    """
    text = " ".join(str(error).split())
    text = text if len(text) <= _LONGEST else text[: _LONGEST - 4] + " ..."
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def blamed(trace: Trace, error: BaseException) -> Born | None:
    """Return where the number that led to ``error`` was born, ``None`` if all that it can be about are finite.

    That is what the failing operation was given; else what the innermost function that holds such a number holds; else,
    where the error speaks of it or checks something, the last one that the step made.
    """
    raised = trace.raised
    given = [] if raised is None else [born for born in raised.parents if not born.deliberate]
    if not given:
        given = next(filter(None, (_broken_in(trace, frame) for frame, _ in _frames(error))), [])
    if not given and trace.cast is not None and isinstance(error, IndexError | RuntimeError):
        given = [trace.cast]
    if not given and (about_numbers(error) or isinstance(error, AssertionError)):
        given = trace.unmeant[-1:]
    return first_born(given)


def place_of_error(error: BaseException, names: Mapping[int, str]) -> SourceLine:
    """Return the user's innermost line that ``error`` went through, and the innermost module."""
    module: str | None = None
    found: tuple[FrameType, int] | None = None
    for frame, line in _frames(error):
        if module is None:
            module = module_of(frame, names)
        if found is None and is_users(frame):
            found = frame, line
    if found is None:
        return SourceLine(module=module)
    frame, line = found
    return SourceLine(frame.f_code.co_filename, line, frame.f_code.co_name, module)


@dataclass(frozen=True)
class Signature:
    """What makes two errors the same: their type and the user's line."""

    kind: type[Exception]
    file: str
    line: int
    in_backward: bool

    def is_of(self, error: Exception) -> bool:
        """Tell whether ``error`` is such a one."""
        place = place_of_error(error, {})
        return (type(error), place.file, place.line) == (self.kind, self.file, self.line)


def signature(error: Exception, trace: Trace) -> Signature:
    """Return what is told of ``error``, which ended the step that ``trace`` followed."""
    place = place_of_error(error, {})
    return Signature(type(error), place.file, place.line, trace.in_backward)


def _frames(error: BaseException) -> list[tuple[FrameType, int]]:
    """Return the frames that ``error`` went through, the innermost first, up to the kit's own."""
    frames: list[tuple[FrameType, int]] = []
    step = error.__traceback__
    while step is not None:
        if is_own(step.tb_frame):
            # The trace stands between the step and torch: what lies on either side of it is the step.
            if step.tb_frame.f_code.co_name != "__torch_dispatch__":
                frames.clear()
        else:
            frames.append((step.tb_frame, step.tb_lineno))
        step = step.tb_next
    return frames[::-1]


def _broken_in(trace: Trace, frame: FrameType) -> list[Born]:
    records = (trace.writer(tensor) for tensor in _held(frame.f_locals))
    return [born for born in records if born is not None and (born.nan or not born.deliberate)]


def _held(variables: Mapping[str, Any]) -> Iterator[Tensor]:
    for value in variables.values():
        for _, leaf in leaves(value) if isinstance(value, list | tuple | dict) else [("", value)]:
            if isinstance(leaf, Tensor):
                yield leaf
