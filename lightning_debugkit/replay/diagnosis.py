"""Run a failing step again and say where its first bad number was born, and by which samples."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from lightning_debugkit.core.isolation import isolated
from lightning_debugkit.core.tensor_numbers import numbers
from lightning_debugkit.data.batches import batch_size, entry, is_floats, leaves, replaced, take, why_whole
from lightning_debugkit.data.containers import is_opaque
from lightning_debugkit.data.packed_rows import of_rows, owners
from lightning_debugkit.replay.culprits import EVERY_ONE, Fails, culprits
from lightning_debugkit.replay.error_origins import Signature, blamed, in_a_line, place_of_error, signature
from lightning_debugkit.replay.nonfinite_entries import broken_columns, broken_rows
from lightning_debugkit.replay.passes import Backward, Pass, ReplayStep, outside
from lightning_debugkit.replay.trace import Born, Trace, first_born

__all__ = ["OF_ALL", "Backward", "Diagnosis", "Origin", "ReplayStep", "breaks_scaled", "diagnose"]

OF_ALL = ("ignored", "empty", "mask", "one")  # causes that lie in all samples of the batch together
_RUNS = 64  # of parts of the batch, by which the samples are found
_UNKNOWN_PART = "in which loader's batch it lies is not known"
Origin = Literal["input", "parameter", "activation", "loss", "gradient", "raised"]


@dataclass(frozen=True)
class Diagnosis:
    """Where the first bad number of a step was born."""

    # where: in the batch, a parameter or buffer, a submodule's forward, the step itself or the backward; or `raised` if
    # all numbers are finite and some samples raise an error
    origin: Origin
    op: str = ""  # operation, such as `aten.log.default`
    source: str = ""  # the user's line, such as `train.py:28: t = torch.log(wh)`
    function: str = ""
    module: str = ""  # dotted path of the module, or of the parameter or buffer
    backward: str = ""  # autograd node, if it was born in the backward pass
    backward_source: str = ""  # the user's line in the backward of a custom autograd function
    path: str = ""  # place in the batch, if it came with it
    columns: Sequence[int] = ()  # that are not finite there, if it is a table of samples by columns
    value: str = "nan"  # `"nan"` or `"inf"`
    loss: float | None = None
    parameters: Sequence[str] = ()  # parameters whose gradient is not finite
    samples: Sequence[int] = ()  # positions in the batch of the samples that cause it
    part: str = ""  # place of the loader's own batch that they are of, where several loaders are read at once
    note: str = ""  # what could not be told, and why
    cause: str = ""  # why the operation breaks on what it was given, as `cause_of` has it
    chosen: bool = False  # the step chooses between branches by `torch.where`
    # largest size among the operation's arguments that are parameters, and among the others
    reach: tuple[float, float] | None = None
    largest: tuple[str, float] = ("", 0.0)  # place in the batch of its largest number, and its size
    error: str = ""  # the error that the step raises, in one line
    unentered: Sequence[str] = ()  # types in the batch that cannot be entered
    size: int | None = None

    @property
    def at_line(self) -> str:
        """The user's line as the end of a phrase, such as `` at train.py:28``; empty where it is not known."""
        return f" at {':'.join(self.source.split(':')[:2])}" if self.source else ""

    @property
    def in_module(self) -> str:
        """The module, or else the function, as the end of a phrase, such as `` in box``; likewise."""
        return f" in {self.module or self.function}" if self.module or self.function else ""


def diagnose(step: ReplayStep, raises: type[Exception] | None = None) -> Diagnosis | None:
    """Replay ``step`` under instruments; return ``None`` if the fault does not strike again.

    The model and the process are left as they were.

    Args:
        raises: Kind of error that the step raised; then that is the fault, and what led to it is told.

    Raises:
        Exception: Whatever the step raises when it is run once more.
    """
    names = {id(part): name for name, part in step.module.named_modules(remove_duplicate=False)}
    with isolated(step.module):
        trace = Trace(names, outside(step))
        traced = Pass(step, trace)
        try:
            if not traced.run(step.batch):
                return None
        except Exception as again:
            if raises is None or not isinstance(again, raises):
                raise
            return _diagnose_raised(traced, again)
        return described(traced, _first(traced), step)


def breaks_scaled(step: ReplayStep, scale: float) -> bool:
    """Tell whether some gradient of ``step`` stops being finite once its losses are scaled, as a GradScaler does."""
    with isolated(step.module):
        return Pass(step, scale=scale).run(step.batch)


def _diagnose_raised(traced: Pass, again: Exception) -> Diagnosis | None:
    """Return what led to the error: a number that broke before it, or else samples that raise it."""
    trace, step = traced.trace, traced.step
    assert trace is not None
    first = blamed(trace, again)
    if first is not None:
        return replace(described(traced, first, step, signature(again, trace)), error=in_a_line(again))
    place, raised = place_of_error(again, trace.names), trace.raised
    found = Diagnosis(
        "raised",
        op="" if raised is None else raised.op,
        source=place.source,
        function=place.function,
        module=place.module or "",
        value="" if raised is None else raised.values,
        error=in_a_line(again),
    )
    part, samples, note = _samples(step, found, None, signature(again, trace))
    # An error that is raised whatever the samples are says all there is, unless a number is at fault.
    return replace(found, part=part, samples=samples, note=note) if samples or found.value else None


def _first(traced: Pass) -> Born | None:
    """Return where the bad loss, or the earliest of the bad gradients, was born."""
    trace = traced.trace
    assert trace is not None
    targets = [grad for _, grad in traced.bad] or ([traced.loss] if traced.loss is not None else [])
    return first_born(record for target in targets if (record := trace.writer(target)) is not None)


def described(traced: Pass, first: Born | None, step: ReplayStep, error: Signature | None = None) -> Diagnosis:
    """Return where the first bad number of a pass was born, and by which samples.

    Args:
        step: What parts of the batch are run by.
        error: The error that those samples raise which cause the fault; broken numbers tell if it is not given.
    """
    found = _describe(traced, first)
    if found.origin == "parameter":
        return found
    part, samples, note = _samples(step, found, first, error)
    return replace(found, part=part, samples=samples, note="; ".join(filter(None, (found.note, note))))


def _describe(traced: Pass, first: Born | None) -> Diagnosis:
    held = None if traced.loss is None else numbers(traced.loss)
    loss = None if held is None else float(held.detach().float().sum())
    in_backward = bool(traced.bad)
    common: dict[str, Any] = {"loss": loss, "parameters": tuple(name for name, _ in traced.bad)}
    common["size"] = batch_size(traced.step.batch, traced.step.asked)
    common["chosen"] = traced.trace is not None and traced.trace.chooses
    if first is None:
        unread = sorted(traced.trace.unread) if traced.trace is not None else []
        why = f": the numbers of {', '.join(unread)} cannot be looked at" if unread else ""
        note = f"the operation could not be told{why}"
        return Diagnosis("gradient" if in_backward else "loss", note=note, **common)
    in_backward = in_backward or bool(first.backward)
    common |= {"value": "nan" if first.nan else "inf", "cause": first.cause, "reach": first.reach}
    if first.reach is not None:
        common["largest"] = _largest(traced.step.batch)
    kind, path = first.label
    if kind == "input":
        masked = traced.trace.masked if traced.trace is not None else None
        if masked is not None and first.nan:
            common |= {"cause": "masked", "source": masked.source}
        return Diagnosis("input", path=path, columns=_columns(traced.step.batch, path), **common)
    if kind == "constant" and (told := _broken_entry(traced.step.batch)) is not None:
        # The step has made a tensor of it: where that came from is not seen.
        return Diagnosis("input", path=told, **common)
    if kind in ("parameter", "buffer", "attribute"):
        return Diagnosis("parameter", module=path, path=kind, **common)
    where: Origin = "gradient" if in_backward else ("activation" if first.place.module else "loss")
    return Diagnosis(
        where,
        op=first.op,
        source=first.place.source,
        function=first.place.function,
        module=first.place.module or "",
        backward=first.backward,
        backward_source=first.backward_source,
        unentered=_unentered(traced.step.batch) if kind == "constant" else (),
        **common,
    )


def _samples(
    step: ReplayStep, found: Diagnosis, first: Born | None, error: Signature | None = None
) -> tuple[str, list[int], str]:
    """Return the samples that cause the fault, the part of the batch that they are of, and what is to be said."""
    if not step.parts:
        return "", *_samples_of(step, found, first, _RUNS, (), step.asked, error)
    said = f"{found.path}." if found.origin == "input" else ""
    parts = [part for part in step.parts if said.startswith(f"{'.'.join(part[0])}.")] or step.parts
    note = ""
    for way, asked in parts:
        samples, note = _samples_of(step, found, first, _RUNS // len(parts), way, asked, error)
        if samples:
            return ".".join(way), samples, note
    return "", [], note


def _samples_of(
    step: ReplayStep,
    found: Diagnosis,
    first: Born | None,
    max_runs: int,
    way: Sequence[str],
    asked: int | None,
    error: Signature | None,
) -> tuple[list[int], str]:
    batch = entry(step.batch, way)
    size = batch_size(batch, asked)
    why = why_whole(batch, asked)
    if size is None or why:
        packed = _of_packed(batch, found, way, asked)
        return packed, "" if packed else why
    fails = _failing(step, found, lambda part: replaced(step.batch, way, take(batch, size, part)), error)
    if found.origin == "raised" and (size == 1 or (fails([0]) and fails([size - 1]))):
        return [], EVERY_ONE  # whatever the samples are, the step raises
    hint = first.rows if first is not None and first.size == size else []
    samples, note = culprits(fails, size, hint, max_runs)
    if way:
        return (samples, note) if _is_sound_without(samples, size, fails) else ([], note or _UNKNOWN_PART)
    if found.cause in OF_ALL and not samples and note in ("", EVERY_ONE):
        return list(range(size)), ""  # the operation had nothing to count in any of them
    return samples, note


def _is_sound_without(samples: Sequence[int], size: int, fails: Fails) -> bool:
    """Tell whether the step is sound without these samples: beside another loader's bad ones it breaks all the same."""
    rest = [index for index in range(size) if index not in set(samples)]
    return fails(rest) is False if samples and rest else False


def _of_packed(batch: Any, found: Diagnosis, way: Sequence[str], asked: int | None) -> list[int]:
    """Return the samples whose rows broke, of a batch that says itself which row is whose."""
    owner = owners(batch, asked) if asked is not None and found.origin == "input" else None
    bad = dict(leaves(batch)).get(found.path.removeprefix("".join(f"{key}." for key in way)))
    is_rows = owner is not None and isinstance(bad, Tensor) and bad.ndim > 0 and len(bad) == len(owner)
    return of_rows(owner, broken_rows(bad)) if is_rows and owner is not None and isinstance(bad, Tensor) else []


def _failing(
    step: ReplayStep, found: Diagnosis, taken: Callable[[Sequence[int]], Any], error: Signature | None
) -> Fails:
    """Return what tells whether some of the samples show the fault: broken numbers, or the same error."""
    gradients = found.origin in ("gradient", "input") or (error is not None and error.in_backward)

    def fails(part: Sequence[int]) -> bool | None:
        try:
            broke = Pass(step, gradients=gradients).run(taken(part))
        except Exception as raised:
            # Batch norm with one sample, a shape that is fixed: this part cannot be run.
            return True if error is not None and error.is_of(raised) else None
        return (None if broke else False) if found.origin == "raised" else broke

    return fails


def _columns(batch: Any, path: str) -> list[int]:
    held = dict(leaves(batch)).get(path)
    return broken_columns(held) if isinstance(held, Tensor) else []


def _unentered(batch: Any) -> list[str]:
    """Return the types of what lies in the batch and cannot be looked into."""
    return sorted(
        {type(leaf).__name__ for _, leaf in leaves(batch) if not isinstance(leaf, Tensor) and is_opaque(leaf)}
    )


def _largest(batch: Any) -> tuple[str, float]:
    """Return the place of the largest number among the floats of a batch, and its size."""
    floats = {path: leaf for path, leaf in leaves(batch) if isinstance(leaf, Tensor) and leaf.is_floating_point()}
    plain = {path: numbers(leaf) for path, leaf in floats.items() if leaf.layout is torch.strided}
    known = [(held.detach(), path) for path, held in plain.items() if held is not None and held.numel()]
    sizes = [(float(held.abs().max()), path) for held, path in known]
    size, path = max(sizes, default=(0.0, ""))
    return path, size


def _broken_entry(batch: Any) -> str | None:
    """Return the place of the first number in a batch that is not finite and is in no tensor."""
    for path, leaf in leaves(batch):
        is_broken = not bool(np.isfinite(leaf).all()) if is_floats(leaf) else isinstance(leaf, float | np.floating)
        if is_broken and (is_floats(leaf) or not math.isfinite(leaf)):
            return path
    return None
