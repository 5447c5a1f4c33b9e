"""Arguments, checked when they are given: what is wrong is said in one sentence, with what to do."""

from __future__ import annotations

import difflib
import importlib
import inspect
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

# What people write who know Lightning's `ModelCheckpoint` or `debugkit()`, and what says it here.
_REPORTING = "a Reporting beside the callback has it, or debugkit()"
_ELSEWHERE = {
    **dict.fromkeys(("ignore", "loggers", "on_finding"), _REPORTING),
    "save_top_k": "NestedCheckpoint(monitor=..., top_k=3) has it, or rules=[Best('val_loss', k=3)]",
    "save_last": "rules=[Latest()] of NestedCheckpoint has it",
    "every_n_train_steps": "rules=[Every(steps=5000)] of NestedCheckpoint has it",
    "every_n_epochs": "rules=[Every(epochs=1)] of NestedCheckpoint has it",
    "train_time_interval": "rules=[Every(hours=1)] of NestedCheckpoint has it",
}


def is_whole(value: Any) -> bool:
    """Tell whether ``value`` is an int; True and False are none."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(value: Any) -> bool:
    """Tell whether ``value`` is a finite number; True and False are none."""
    return is_whole(value) or (isinstance(value, float) and math.isfinite(value))


def is_listing(value: Any, kind: type) -> bool:
    """Tell whether ``value`` is a list or tuple of ``kind``."""
    return isinstance(value, list | tuple) and all(isinstance(item, kind) for item in value)


def arguments_of(kind: type) -> Mapping[str, inspect.Parameter]:
    """Return the arguments of a class by name."""
    return _arguments(kind)


@lru_cache  # a search makes its callbacks anew for each of its fits
def _arguments(kind: type) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(kind).parameters


def closest(name: str, known: Iterable[str], otherwise: str = "check the spelling") -> str:
    """Return advice on a name that is not known: the one that it is closest to, if any is.

    >>> closest("ignroe", ["action", "ignore"])
    "the closest is 'ignore'"
    >>> closest("zzz", ["action", "ignore"])
    'check the spelling'
    """
    known = list(known)
    close = difflib.get_close_matches(name, known, 1) or [each for each in known if each.startswith(name)]
    return f"the closest is {close[0]!r}" if close else otherwise


def check_names(kind: type, given: Iterable[str]) -> None:
    """Raise unless ``kind`` has arguments of these names.

    Raises:
        TypeError: It has none of a name; the text says what has.
    """
    known = arguments_of(kind)
    is_open = any(each.kind is each.VAR_KEYWORD for each in known.values())
    for name in given:
        if not is_open and name not in known:
            advice = _ELSEWHERE.get(name) or closest(name, known)
            raise TypeError(f"{kind.__name__} needs arguments among {', '.join(known)}, got {name!r}; {advice}.")


@dataclass(frozen=True)
class Needs:
    """Raises `ValueError` for an argument of ``owner`` that is not as it needs it.

    >>> Needs("NestedCheckpoint").whole("top_k", 0, 1, "3 is a good start")
    Traceback (most recent call last):
    ValueError: NestedCheckpoint needs top_k >= 1, got 0; 3 is a good start.
    """

    owner: str

    def that(self, name: str, holds: Any, rule: str, value: Any, advice: str) -> None:
        """Raise unless ``holds``, which is what ``rule`` says of the argument ``name``."""
        if not holds:
            raise ValueError(f"{self.owner} needs {name} {rule}, got {value!r}; {advice}.")

    def whole(self, name: str, value: Any, least: int, advice: str) -> None:
        """Raise unless ``value`` is a whole number of ``least`` or more."""
        self.that(name, is_whole(value) and value >= least, f">= {least}", value, advice)

    def switch(self, name: str, value: Any, advice: str) -> None:
        """Raise unless ``value`` is True or False."""
        self.that(name, isinstance(value, bool), "True or False", value, advice)

    def one_of(self, name: str, value: Any, choices: Sequence[str], advice: str) -> None:
        """Raise unless ``value`` is one of ``choices``."""
        self.that(name, value in choices, " or ".join(map(repr, choices)), value, advice)

    def function(self, name: str, value: Any, advice: str) -> None:
        """Raise unless ``value`` is None, a function, or the dotted path of one."""
        known = value is None or callable(value)
        if isinstance(value, str):
            try:
                known = callable(function_at(value))
            except ValueError as error:
                known, advice = False, str(error)
        self.that(name, known, "to be a function or its dotted path", value, advice)


def function_at(path: str) -> Callable[..., Any]:
    """Return the function that a dotted path names.

    Raises:
        ValueError: There is none; the text says what of the path is missing.

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
