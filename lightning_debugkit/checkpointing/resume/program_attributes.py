"""What a program changes in its own objects while it trains, and Lightning's checkpoints lack.

A temperature that falls with each step, a count, a stage of a curriculum, layers that are frozen or thawed: they are
numbers, flags and words in attributes of modules, of the data module, of callbacks without a state of their own, and
``requires_grad`` of parameters. A list that grows is a record of what this process did, and is left alone. Lightning
does not call ``on_train_epoch_start`` again in an epoch that it resumes within, and ``BackboneFinetuning`` freezes its
backbone anew when a run is set up, whatever was thawed before.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

from torch import nn

from lightning_debugkit.core.compat import (
    Callback,
    LightningDataModule,
    LightningModule,
    Metric,
    Trainer,
    both_packages,
    callbacks_of,
    overrides,
)
from lightning_debugkit.core.held_state import OTHERS

_Place = tuple[str, str]  # path of an object, and name of its attribute
_Values = dict[_Place, Any]

_SET_BY_LIGHTNING = frozenset(vars(LightningModule())) | frozenset(vars(LightningDataModule())) | {"training"}
_PLAIN = (int, float, bool, str, type(None))
_STATES = ("state_dict", "load_state_dict", "on_save_checkpoint", "on_load_checkpoint")
_CLOCKS = (time.time, time.perf_counter, time.monotonic)
_ACCUMULATION = "accumulate_grad_batches"  # the one setting of a Trainer that is changed while it trains


class ProgramAttributes:
    """The attributes that have become others since training began: kept with a checkpoint, and set again.

    What has not moved, such as a width or a path, is the program's, and is never set. Readings of a clock are left.
    """

    def __init__(self, trainer: Trainer, module: LightningModule) -> None:
        self._trainer, self._module = trainer, module
        self._began = [clock() for clock in _CLOCKS]
        self._first: _Values = {}
        self._ever: set[_Place] = set()  # what has moved at any time, in the runs before, too
        self._made = dict(_kept(module))
        self._theirs: set[str] = set()

    def loaded(self) -> None:
        """Note what the module's own ``on_load_checkpoint`` has set: that is its affair."""
        if overrides(self._module, "on_load_checkpoint"):
            now = dict(_kept(self._module))
            self._theirs = {name for name in now if not _is_same(self._made.get(name, _ABSENT), now[name])}

    def start(self) -> None:
        """Training begins: from now on it is the program that moves."""
        self._first = self._now()

    def state(self) -> dict[str, dict[str, Any]]:
        """Return what has moved, by the path of its object and its name, as types that a safe ``torch.load`` takes."""
        now = self._now() if self._first else {}
        for place, value in now.items():
            if not (_is_same(self._first.get(place, _ABSENT), value) or self._is_clock(value)):
                self._ever.add(place)
        found: dict[str, dict[str, Any]] = {}
        for path, name in sorted(self._ever & now.keys()):
            found.setdefault(path, {})[name] = now[path, name]
        return found

    def restore(self, saved: dict[str, dict[str, Any]]) -> None:
        """Set what had moved, unless a hook of the module's own has read it, or it is no plain value any more."""
        owners = dict(self._owners())
        for path, values in saved.items():
            self._ever |= {(path, name) for name in values}
            owner = owners.get(path)
            for name, value in values.items() if owner is not None else ():
                is_theirs = owner is self._module and name in self._theirs
                if not is_theirs and type(getattr(owner, name, None)) in _PLAIN:
                    setattr(owner, name, value)

    def _now(self) -> _Values:
        return {(path, name): value for path, item in self._owners() for name, value in _kept(item)}

    def _is_clock(self, value: Any) -> bool:
        """Tell whether a value may be the time at which something began: it means nothing in another process."""
        if type(value) is not float:
            return False
        return any(began <= value <= clock() for began, clock in zip(self._began, _CLOCKS, strict=True))

    def _owners(self) -> Iterator[tuple[str, Any]]:
        yield "trainer", self._trainer
        for name, module in self._module.named_modules():
            if not isinstance(module, Metric):  # its states are no attributes, and go with those
                yield f"module {name}", module
        for name, parameter in self._module.named_parameters():
            yield f"parameter {name}", parameter
        datamodule = getattr(self._trainer, "datamodule", None)
        if datamodule is not None and not overrides(datamodule, "state_dict", LightningDataModule):
            yield "datamodule", datamodule
        met: Counter[str] = Counter()
        for callback in callbacks_of(self._trainer):
            if _is_own_without_state(callback):
                kind = type(callback).__qualname__
                yield f"callback {kind} {met[kind]}", callback
                met[kind] += 1


def _is_own_without_state(callback: Any) -> bool:
    """Tell whether a callback is the program's, made of Lightning's plain `Callback`, and keeps no state itself."""
    kind = type(callback)
    if any(_is_theirs(base) for base in kind.__mro__ if base.__name__ not in ("Callback", "object")):
        return False
    return not any(overrides(callback, name, Callback) for name in _STATES)


_ABSENT = object()


def _kept(item: Any) -> Iterator[tuple[str, Any]]:
    """Yield the attributes that can be kept."""
    if isinstance(item, nn.Parameter):
        yield "requires_grad", item.requires_grad
    elif isinstance(item, both_packages(Trainer)):
        yield _ACCUMULATION, item.accumulate_grad_batches
    elif not _is_theirs(type(item)):
        for name, value in vars(item).items():
            if type(value) in _PLAIN and name not in _SET_BY_LIGHTNING:
                yield name, value
    elif type(item).__module__.startswith("torch.nn."):  # a rate of dropout that is scheduled
        for name, value in vars(item).items():
            if type(value) in (float, bool) and name not in _SET_BY_LIGHTNING:
                yield name, value


def _is_theirs(kind: type) -> bool:
    return kind.__module__.partition(".")[0] in OTHERS


def _is_same(one: Any, other: Any) -> bool:
    return type(one) is type(other) and bool(one == other or (one != one and other != other))
