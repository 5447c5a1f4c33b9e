"""Weights that ``load_state_dict(strict=False)`` was given and did not load."""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn

from lightning_debugkit.core.finding import Finding, Severity, Where
from lightning_debugkit.core.patching import hear_method
from lightning_debugkit.core.rule import Rule

NOT_LOADED = Rule(
    "weights-not-loaded",
    Severity.ERROR,
    "{what}load_state_dict(strict=False) loaded {used} of the {given} entries it was given, into {used} of the {own} "
    "of {model}{why}",
    "{remedy}",
    section="parameters",
)

# Choices, not laws. A new head leaves most of both sides used, an adapter all that is given, an encoder all that is
# there: only where next to nothing of either is used has the load missed.
_LITTLE = 0.1
_AGREE = 0.5  # of the smaller side, that a prefix must bring into agreement to be named


@dataclass(frozen=True)
class _Load:
    """One load that was not strict."""

    module: weakref.ref[nn.Module]
    given: Mapping[str, int]  # entries of each tensor
    own: Mapping[str, int]
    is_early: bool  # before the fit, where any model may have been loaded


class Loads:
    """Hear loads that are not strict, from when the callback is made to the first batch of its fit."""

    _hearing: ClassVar[weakref.WeakSet[Loads]] = weakref.WeakSet()
    _away: ClassVar[Callable[[], None] | None] = None  # one listener for all: they come and go in any order

    def __init__(self, listen: bool = False) -> None:
        self._loads: list[_Load] = []
        self._has_begun = False
        if listen:
            self.listen()

    def __reduce__(self) -> tuple[type[Loads], tuple[()]]:
        return Loads, ()  # in a pickle and in a copy, one that has heard nothing

    def listen(self, has_begun: bool = False) -> None:
        """Hear each load from now on, those of submodules and of `load_from_checkpoint`, too.

        Args:
            has_begun: It is the fit that loads now.
        """
        self._has_begun = has_begun
        Loads._hearing.add(self)
        if Loads._away is None:
            Loads._away = hear_method(nn.Module, "load_state_dict", _heard, after=True)

    def stop(self) -> None:
        """Hear no more; may be called twice."""
        Loads._hearing.discard(self)
        _leave()

    def take(self, module: nn.Module, state_dict: Mapping[str, Any], is_strict: bool) -> None:
        """Keep a load; what it fills again is no matter of the loads before."""
        again = {id(one) for one in (module.modules() if is_strict else (module,))} | {id(None)}
        self._loads = [load for load in self._loads if id(load.module()) not in again]
        if not is_strict:
            given = {key: value.numel() for key, value in state_dict.items() if isinstance(value, Tensor)}
            own = {name: one.numel() for name, one in (*module.named_parameters(), *module.named_buffers())}
            self._loads.append(_Load(weakref.ref(module), given, own, not self._has_begun))

    def judge(self, where: Where, module: nn.Module) -> Iterator[Finding]:
        """Yield the loads that missed."""
        loads, self._loads = self._loads, []
        paths = {id(part): name for name, part in module.named_modules()}
        for load in loads:
            part = load.module()
            if part is None or (load.is_early and id(part) not in paths):
                continue
            used = [key for key in load.given if key in load.own]
            if not load.given or not load.own:
                continue
            share = sum(load.given[key] for key in used) / max(1, sum(load.given.values()))
            filled = sum(load.own[key] for key in used) / max(1, sum(load.own.values()))
            if share >= _LITTLE or filled >= _LITTLE:
                continue
            why, remedy = _prefixes(load)
            path = paths.get(id(part), "")
            yield NOT_LOADED.found(
                where.at(path),
                severity=None if not used else Severity.WARNING,
                what=f"{path}." if path else "",
                used=len(used),
                given=len(load.given),
                own=len(load.own),
                model=type(part).__name__,
                why=why,
                remedy=remedy,
            )


def _leave() -> None:
    """Take the listener away once nobody hears by it."""
    if Loads._away is not None and not Loads._hearing:
        Loads._away()
        Loads._away = None


def _heard(module: nn.Module, state_dict: Mapping[str, Any], *args: Any, **kwargs: Any) -> None:
    is_strict = bool(args[0] if args else kwargs.get("strict", True))
    for loads in list(Loads._hearing):
        with contextlib.suppress(Exception):  # what cannot be counted, such as lazy parameters, is not judged
            loads.take(module, state_dict, is_strict)
    _leave()


def _prefixes(load: _Load) -> tuple[str, str]:
    """Return by which prefix the names differ, and what to do about it."""
    given, own = set(load.given), set(load.own)
    needed = _AGREE * min(len(given), len(own))
    for prefix in sorted({key[: i + 1] for key in given for i, sign in enumerate(key) if sign == "."}, key=len):
        agreeing = {key.removeprefix(prefix) for key in given if key.startswith(prefix)} & own
        if len(agreeing) >= needed:
            return (
                f": the names given begin with {prefix!r}, those of the model do not",
                f"Take {prefix!r} off the names: {{k.removeprefix({prefix!r}): v for k, v in state.items()}}, and load "
                "with strict=True.",
            )
    for prefix in sorted({key[: i + 1] for key in own for i, sign in enumerate(key) if sign == "."}, key=len):
        if len({prefix + key for key in given} & own) >= needed:
            return (
                f": the names of the model begin with {prefix!r}, those given do not",
                f"Load into that part (model.{prefix[:-1]}.load_state_dict), with strict=True.",
            )
    return (
        f": such as {min(given)!r}, where the model has {min(own)!r}",
        "Load with strict=True and look at the names that it lists; mend them, or load what is meant.",
    )
