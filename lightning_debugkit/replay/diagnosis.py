"""Run a failing step again and say where its first bad number was born, and by which samples."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from lightning_debugkit.core.isolation import isolated
from lightning_debugkit.core.rng import RandomState
from lightning_debugkit.data.batches import batch_size, entry, is_floats, leaves, replaced, take, why_whole
from lightning_debugkit.replay.culprits import culprits
from lightning_debugkit.replay.trace import Born, Silent, Trace, origin

Backward = Callable[..., None]
Origin = Literal["input", "parameter", "activation", "loss", "gradient"]


@dataclass(frozen=True)
class ReplayStep:
    """A training step that can be run again.

    Args:
        module: The model.
        batch: The batch as the step received it.
        random: Random state in which the step started.
        run: Runs the step on a batch and hands each loss to the function given, in place of its ``backward``.
        asked: How many samples the loader asked for, ``None`` if that is not known.
        parts: Where several loaders are read at once: the place of each one's own batch, and how many samples it asked
            for.
    """

    module: nn.Module
    batch: Any
    random: RandomState
    run: Callable[[Any, Backward], None]
    asked: int | None = None
    parts: Sequence[tuple[Sequence[str], int | None]] = ()


@dataclass(frozen=True)
class Diagnosis:
    """Where the first bad number of a step was born.

    Args:
        origin: Where: in the batch, a parameter or buffer, a submodule's forward, the step itself or the backward.
        op: Operation, such as ``aten.log.default``.
        source: The user's line, such as ``train.py:28: t = torch.log(wh)``.
        function: The function of that line.
        module: Dotted path of the module, or of the parameter or buffer.
        backward: Autograd node, if it was born in the backward pass.
        backward_source: The user's line in the backward of a custom autograd function.
        path: Place in the batch, if it came with it.
        value: ``"nan"`` or ``"inf"``.
        loss: Value of the loss.
        parameters: Parameters whose gradient is not finite.
        samples: Positions in the batch of the samples that cause it.
        part: Place of the loader's own batch that they are of, where several loaders are read at once.
        note: What could not be told, and why.
    """

    origin: Origin
    op: str = ""
    source: str = ""
    function: str = ""
    module: str = ""
    backward: str = ""
    backward_source: str = ""
    path: str = ""
    value: str = "nan"
    loss: float | None = None
    parameters: Sequence[str] = ()
    samples: Sequence[int] = ()
    part: str = ""
    note: str = ""


class _Enough(Exception):  # not an error: ends a step whose fault has been seen
    """The fault has been seen: the rest of the step need not run."""


@dataclass
class _Pass:
    """One run of a step: its losses and gradients until the first bad one."""

    step: ReplayStep
    trace: Trace | None = None
    gradients: bool = True
    loss: Tensor | None = None
    bad: list[tuple[str, Tensor]] = field(default_factory=list)

    def run(self, batch: Any) -> bool:
        """Run the step on ``batch``; tell whether a loss or gradient was not finite."""
        self.step.random.restore()
        for parameter in self.step.module.parameters():
            parameter.grad = None
        if self.trace is not None:
            self.trace.in_backward = False
        try:
            with self.trace or Silent():
                self.step.run(batch, self.backward)
        except _Enough:
            return True
        return False

    def backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        """Stand in for ``loss.backward()``: note bad losses and gradients, leave parameters' hooks alone."""
        self.loss = loss.detach()
        if not _finite(loss):
            raise _Enough
        if not self.gradients:
            return
        named = {name: item for name, item in self.step.module.named_parameters() if item.requires_grad}
        if self.trace is not None:
            self.trace.in_backward = True
        outputs = args[0] if args else kwargs.get("gradient")
        grads = torch.autograd.grad(
            loss, list(named.values()), outputs, retain_graph=kwargs.get("retain_graph"), allow_unused=True
        )
        if self.trace is not None:
            self.trace.in_backward = False
        for (name, parameter), grad in zip(named.items(), grads, strict=True):
            if grad is not None:
                parameter.grad = grad if parameter.grad is None else parameter.grad + grad
                if not _finite(grad):
                    self.bad.append((name, grad))
        if self.bad:
            raise _Enough


def diagnose(step: ReplayStep, max_runs: int = 64) -> Diagnosis | None:
    """Replay ``step`` under instruments; return ``None`` if the fault does not strike again.

    The model and the process are left as they were.

    Args:
        step: The step that went wrong.
        max_runs: Parts of the batch that may be run to find the samples.

    Raises:
        Exception: Whatever the step raises when it is run once more.
    """
    names = {id(part): name for name, part in step.module.named_modules(remove_duplicate=False)}
    with isolated(step.module):
        trace = Trace(names, _outside(step))
        traced = _Pass(step, trace)
        if not traced.run(step.batch):
            return None
        first = _first(traced)
        found = _describe(traced, first)
        if found.origin == "parameter":
            return found
        part, samples, note = _samples(step, found, first, max_runs)
        return replace(found, part=part, samples=samples, note=_joined(found.note, note))


def _first(traced: _Pass) -> Born | None:
    """Return where the bad loss, or the earliest of the bad gradients, was born."""
    trace = traced.trace
    assert trace is not None
    targets = [grad for _, grad in traced.bad] or ([traced.loss] if traced.loss is not None else [])
    records = [record for target in targets if (record := trace.writer(target)) is not None]
    return min(map(origin, records), key=lambda born: born.index, default=None)


def _describe(traced: _Pass, first: Born | None) -> Diagnosis:
    loss = None if traced.loss is None else float(traced.loss.float().sum())
    in_backward = bool(traced.bad)
    common: dict[str, Any] = {"loss": loss, "parameters": tuple(name for name, _ in traced.bad)}
    if first is None:
        return Diagnosis("gradient" if in_backward else "loss", note="the operation could not be told", **common)
    common["value"] = "nan" if first.nan else "inf"
    kind, path = first.label
    if kind == "input":
        return Diagnosis("input", path=path, **common)
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
        note="a tensor kept from before the step is not finite" if kind == "constant" else "",
        **common,
    )


def _samples(step: ReplayStep, found: Diagnosis, first: Born | None, max_runs: int) -> tuple[str, list[int], str]:
    """Return the samples that cause the fault, the part of the batch that they are of, and what is to be said."""
    if not step.parts:
        return "", *_samples_of(step, found, first, max_runs, (), step.asked)
    said = f"{found.path}." if found.origin == "input" else ""
    parts = [part for part in step.parts if said.startswith(f"{'.'.join(part[0])}.")] or step.parts
    note = ""
    for way, asked in parts:
        samples, note = _samples_of(step, found, first, max_runs // len(parts), way, asked)
        if samples:
            return ".".join(way), samples, note
    return "", [], note


def _samples_of(
    step: ReplayStep, found: Diagnosis, first: Born | None, max_runs: int, way: Sequence[str], asked: int | None
) -> tuple[list[int], str]:
    batch = entry(step.batch, way)
    size = batch_size(batch, asked)
    why = why_whole(batch, asked)
    if size is None or why:
        return [], why

    def fails(part: Sequence[int]) -> bool | None:
        try:
            some = replaced(step.batch, way, take(batch, size, part))
            return _Pass(step, gradients=found.origin in ("gradient", "input")).run(some)
        except Exception:
            return None  # batch norm with one sample, a shape that is fixed: this part cannot be run

    hint = first.rows if first is not None and first.size == size else []
    return culprits(fails, size, hint, max_runs)


def _joined(*notes: str) -> str:
    return "; ".join(note for note in notes if note)


def _outside(step: ReplayStep) -> list[tuple[str, str, Tensor]]:
    """Return the tensors that the step did not make: batch, parameters and buffers."""
    # An array and the tensor that `torch.from_numpy` makes of it are one memory.
    batch = [(path, torch.from_numpy(leaf) if is_floats(leaf) else leaf) for path, leaf in leaves(step.batch)]
    outside = [("input", path, leaf) for path, leaf in batch if isinstance(leaf, Tensor)]
    outside += [("parameter", name, item) for name, item in step.module.named_parameters()]
    outside += [("buffer", name, item) for name, item in step.module.named_buffers()]
    return outside + [("attribute", name, item) for name, item in _attributes(step.module)]


def _attributes(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors that a model keeps in plain attributes, lists and dicts."""
    for name, part in module.named_modules():
        for key, value in vars(part).items():
            if key[:1] != "_" and isinstance(value, Tensor | list | tuple | dict):
                for path, leaf in leaves(value):
                    if isinstance(leaf, Tensor):
                        yield ".".join(filter(None, (name, key, path))), leaf


def _broken_entry(batch: Any) -> str | None:
    """Return the place of the first number in a batch that is not finite and is in no tensor."""
    for path, leaf in leaves(batch):
        is_broken = not bool(np.isfinite(leaf).all()) if is_floats(leaf) else isinstance(leaf, float | np.floating)
        if is_broken and (is_floats(leaf) or not math.isfinite(leaf)):
            return path
    return None


def _finite(tensor: Tensor) -> bool:
    return bool(torch.isfinite(tensor.detach()).all())
