"""Validation and test: losses, logged values and outputs that are not finite."""

from __future__ import annotations

import weakref
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, SequentialSampler

from lightning_debugkit.core.compat import LightningModule, Trainer, callbacks_of
from lightning_debugkit.core.finding import Finding, Severity, Where
from lightning_debugkit.core.name_lists import listed
from lightning_debugkit.core.rng import RandomState
from lightning_debugkit.core.rule import Rule
from lightning_debugkit.data.batches import leaves
from lightning_debugkit.data.loaders import is_at_once, loaders_given
from lightning_debugkit.data.sample_order import Handed, ways_to
from lightning_debugkit.monitors.culprit_entries import known_entries
from lightning_debugkit.replay.diagnosis import Diagnosis
from lightning_debugkit.replay.hidden_step_replay import replay_evaluation
from lightning_debugkit.replay.nonfinite_cause_messages import Circumstances
from lightning_debugkit.replay.nonfinite_rules import finding as worded
from lightning_debugkit.replay.step_raised import device_is_lost, explained, lost_device

VALIDATION = Rule(
    "nonfinite-validation",
    Severity.ERROR,
    "{names} {verb} {value} {since}: {what}{samples_text}",
    "{remedy}",
    section="validation",
    can_follow=("nonfinite-buffer", "nonfinite-parameter", "optimizer-nonfinite"),
)

_MOST = 64  # values of a batch that are looked at
_RETURNED = "the loss returned"
_REPLAYS = 3  # in a run


@dataclass(frozen=True)
class _Value:
    """Something that a step of validation gave."""

    name: str
    tensor: Tensor
    is_loss: bool

    @property
    def flag(self) -> Tensor:
        """0 if it is sound, 1 if it holds NaN, 2 if it is a loss that is infinite; on its device."""
        # An infinity may be meant: scores that are masked, a signal-to-noise ratio without noise.
        nan = torch.isnan(self.tensor).any().to(torch.float32)
        return nan + 2 * torch.isinf(self.tensor).any().to(torch.float32) if self.is_loss else nan


class Evaluation:
    """Look at what each batch of an evaluation returns and logs: one small read a batch."""

    def __init__(self) -> None:
        self.passes = 0  # evaluations in this fit, without the sanity check
        self._bad: set[str] = set()  # names that have been reported as broken in this evaluation
        self._lasting: set[str] = set()  # names that have been reported as broken in any
        self._seen: set[str] = set()
        self._infinite: set[str] = set()  # metrics that were infinite at the end of the evaluation before
        self._random: RandomState | None = None
        self._running: tuple[Any, tuple[int, int]] | None = None  # the batch whose step has begun, and its place
        self._replays = 0

    def begin(self) -> None:
        """Begin an evaluation."""
        self._bad, self._seen = set(), set()

    def before_batch(self, batch: Any, place: tuple[int, int]) -> None:
        """Take the random state that a batch starts in."""
        self._random = RandomState.capture()
        self._running = batch, place

    @property
    def is_running(self) -> bool:
        """The step of a batch has begun and is not over."""
        return self._running is not None

    def raised(self, where: Where, trainer: Trainer, module: LightningModule, error: Exception) -> Iterator[Finding]:
        """Yield what made the step of the batch that is running raise ``error``, if it is not all in the error."""
        if self._running is None:
            return
        (batch, place), self._running = self._running, None
        if device_is_lost(error):
            yield lost_device(where, error, place[0])
            return
        hook = "test_step" if trainer.testing else "validation_step"
        found, _ = self._replayed(trainer, module, hook, batch, place, type(error))
        if found is not None:
            entries, unnamed = known_entries(trainer, _handed(trainer, place), batch, found)
            is_low = str(trainer.precision).startswith("16")
            when = Circumstances(place[0], entries, note=unnamed, low_precision=is_low)
            yield explained(where, found, when, error=type(error).__name__, hook=hook)

    def after_batch(
        self, where: Where, trainer: Trainer, module: LightningModule, outputs: Any, batch: Any, place: tuple[int, int]
    ) -> Iterator[Finding]:
        """Yield the finding for values that have become NaN, or a loss that is infinite, with this batch.

        Args:
            place: Position of the batch, and of its loader.
        """
        self._running = None
        values = [v for v in (*_returned(outputs), *_logged(trainer, self._infinite)) if v.name not in self._bad]
        if trainer.sanity_checking:
            values = [value for value in values if value.is_loss]
        values = values[:_MOST]
        broken = [(value, flag) for value, flag in zip(values, _read(values), strict=True) if flag]
        if not broken:
            return
        self._bad |= {value.name for value, _ in broken}
        hook = "test_step" if trainer.testing else "validation_step"
        names = [value.name for value, _ in broken]
        found, note = self._replayed(trainer, module, hook, batch, place)
        named = [value for value, _ in broken if not value.name.startswith("outputs")]
        if not named and (found is None or found.origin == "input"):
            return  # a batch that marks what is missing by NaN, and a step that hands it on
        if found is None and self._replays > _REPLAYS and self._lasting.issuperset(names):
            return  # it recurs, and nothing more is going to be known of it
        self._lasting.update(names)
        value = "nan" if any(flag in (1, 3) for _, flag in broken) else "inf"
        is_grave = any(value.is_loss and value.name not in self._infinite for value, _ in broken)
        is_grave = is_grave or bool(set(names) & _monitored(trainer))
        logged = [name for name in names if name != _RETURNED]
        names = logged or names  # mostly they are one
        entries, unnamed = known_entries(trainer, _handed(trainer, place), batch, found)
        at = f"since {self._told(trainer)}, batch {place[0]}"
        at += f" of loader {place[1]}" if place[1] else ""
        is_low = str(trainer.precision).startswith("16")
        when = Circumstances(place[0], entries, note=note or unnamed, low_precision=is_low)
        yield _finding(where, found, when, names, value, at, is_grave)

    def end(self, where: Where, trainer: Trainer) -> Iterator[Finding]:
        """Yield the finding for metrics of the whole evaluation that are NaN though no batch showed it."""
        if trainer.sanity_checking:
            return
        training = {item.meta.name for item in _results(trainer, training=True)}
        items = [(n, v) for n, v in trainer.callback_metrics.items() if isinstance(v, Tensor) and v.numel() == 1]
        values = [
            _Value(name, tensor, _is_loss(name))
            for name, tensor in items
            if name.removesuffix("_epoch").removesuffix("_step") not in self._bad | training
        ]
        flags = _read([replace(value, is_loss=True) for value in values])
        broken = [value for value, flag in zip(values, flags, strict=True) if flag in (1, 3)]
        self._infinite = {value.name for value, flag in zip(values, flags, strict=True) if flag == 2}
        at = f"at the end of {self._told(trainer)}"
        self.passes += not trainer.testing
        if broken:
            names = [value.name for value in broken]
            is_grave = any(value.is_loss for value in broken) or bool(set(names) & _monitored(trainer))
            note = "no batch of its own showed it, so it is made of what is gathered over the batches"
            yield _finding(where, None, Circumstances(-1, note=note), names, "nan", at, is_grave)

    def release(self) -> None:
        """Let go of the batch that was running."""
        self._running = None

    def _told(self, trainer: Trainer) -> str:
        if trainer.sanity_checking:
            return "the sanity check"
        return "the test" if trainer.testing else f"validation {self.passes}"

    def _replayed(
        self,
        trainer: Trainer,
        module: LightningModule,
        hook: str,
        batch: Any,
        place: tuple[int, int],
        raises: type[Exception] | None = None,
    ) -> tuple[Diagnosis | None, str]:
        self._replays += 1
        if self._replays > _REPLAYS:
            return None, "no more batches are run again in this run"

        def bad(outputs: Any, logged: Mapping[str, Any]) -> Tensor | None:
            values = [*_returned(outputs), *_of(logged, self._infinite)]
            return next((v.tensor for v, flag in zip(values, _read(values), strict=True) if flag), None)

        return replay_evaluation(trainer, module, hook, batch, place, self._random, bad, raises)


def _finding(
    where: Where,
    found: Diagnosis | None,
    when: Circumstances,
    names: Sequence[str],
    value: str,
    since: str,
    is_grave: bool,
) -> Finding:
    told = worded(where, found, when, seen="")
    what = told.message.partition(": ")[2]
    if found is not None and not found.samples and found.note:
        what += f"; {found.note}"  # such as that each single sample causes it
    remedy = told.advice if found else "Look at what these values divide by, and at how many samples they need."
    words = {"names": listed(list(names)), "verb": "is" if len(names) == 1 else "are", "value": value}
    made = VALIDATION.found(
        where.at(told.where.module),
        severity=None if is_grave else Severity.WARNING,
        since=since,
        what=what,
        samples_text="",
        remedy=remedy,
        **words,
    )
    return replace(made, evidence={**told.evidence, "values": list(names), "origin": found.origin if found else ""})


def _returned(outputs: Any) -> list[_Value]:
    """Return the floating numbers of what a step returned."""
    if isinstance(outputs, Tensor):
        return [_Value(_RETURNED, outputs, True)] if outputs.numel() == 1 and _floats(outputs) else []
    found = []
    for path, leaf in leaves(outputs) if outputs is not None else ():
        if isinstance(leaf, Tensor) and _floats(leaf):
            is_loss = path == "loss"
            found.append(_Value(path if is_loss else f"outputs {path}".strip(), leaf, is_loss and leaf.numel() == 1))
    return found


def _of(logged: Mapping[str, Any], infinite: Container[str]) -> list[_Value]:
    held = {name: torch.as_tensor(value) for name, value in logged.items() if isinstance(value, Tensor | float)}
    return [
        _Value(name, tensor, _is_loss(name) or name in infinite) for name, tensor in held.items() if _floats(tensor)
    ]


def _logged(trainer: Trainer, infinite: Container[str]) -> list[_Value]:
    """Return what was logged so far in this evaluation: a sum that is not finite stays so.

    A metric that was infinite once may be so for good reason; one that is ``infinite`` again and again tells nothing.
    """
    found = []
    for item in _results(trainer, training=False):
        value = getattr(item, "value", None)
        is_open = item.meta.is_max_reduction or item.meta.is_min_reduction  # these begin at infinity
        if item.is_tensor and isinstance(value, Tensor) and _floats(value):
            judged = _is_loss(item.meta.name) or item.meta.name in infinite
            found.append(_Value(item.meta.name, value, judged and not is_open))
    return found


def _results(trainer: Trainer, training: bool) -> list[Any]:
    loop: Any = trainer.fit_loop.epoch_loop if training else trainer._active_loop
    try:
        results: Mapping[str, Any] = loop._results or {}
    except (AttributeError, RuntimeError):  # no loop runs
        return []
    return [item for item in results.values() if hasattr(item, "meta")]


def _floats(tensor: Tensor) -> bool:
    # Of a tensor that lies on several processes, none can read alone.
    is_here = tensor.layout is torch.strided and not hasattr(tensor, "full_tensor")
    return is_here and tensor.is_floating_point() and tensor.numel() > 0


def _is_loss(name: str) -> bool:
    return "loss" in name.lower()


def _read(values: Sequence[_Value]) -> list[int]:
    """Bring the flags of all values to the host in one copy."""
    if not values:
        return []
    device = values[0].tensor.device
    return [int(flag) for flag in torch.stack([value.flag.to(device) for value in values]).tolist()]


def _monitored(trainer: Trainer) -> set[str]:
    """Return the names that callbacks and schedulers go by."""
    callbacks = callbacks_of(trainer)
    names = {getattr(callback, "monitor", None) for callback in callbacks}
    names |= {config.monitor for config in trainer.lr_scheduler_configs}
    return {name for name in names if isinstance(name, str)}


def _handed(trainer: Trainer, place: tuple[int, int]) -> list[Handed]:
    """Return what each loader has put into a batch of the evaluation, of those that go through their data in order."""
    ways = ways_to(loaders_given(trainer, trainer.testing))
    if not is_at_once(trainer):
        ways = [((), loader) for _, loader in ways[place[1] : place[1] + 1]]
    found = []
    for way, loader in ways if trainer.world_size == 1 else []:
        size = loader.batch_size if isinstance(loader, DataLoader) else None
        if size and isinstance(loader.sampler, SequentialSampler):
            # None are left where a shorter loader has begun again beside a longer one.
            asked = list(range(len(loader.sampler)))[place[0] * size : (place[0] + 1) * size]
            found.append(Handed(way, weakref.ref(loader), asked or None, size))
    return found
