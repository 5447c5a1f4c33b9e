"""A step as something that can be run again, and one run of it: until its first bad loss or gradient."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from lightning_debugkit.core.rng import RandomState
from lightning_debugkit.data.batches import is_floats, leaves
from lightning_debugkit.replay.nonfinite_entries import broken
from lightning_debugkit.replay.trace import Silent, Trace

Backward = Callable[..., None]


@dataclass(frozen=True)
class ReplayStep:
    """A training step that can be run again."""

    module: nn.Module
    batch: Any  # the batch as the step received it
    random: RandomState  # random state in which the step started
    # runs the step on a batch and hands each loss to the function given, in place of its `backward`
    run: Callable[[Any, Backward], None]
    asked: int | None = None  # how many samples the loader asked for, `None` if that is not known
    # where several loaders are read at once: the place of each one's own batch, and how many samples it asked for
    parts: Sequence[tuple[Sequence[str], int | None]] = ()


class _Enough(Exception):  # not an error: ends a step whose fault has been seen
    """The fault has been seen: the rest of the step need not run."""


@dataclass
class Pass:
    """One run of a step: its losses and gradients until the first bad one."""

    step: ReplayStep
    trace: Trace | None = None
    gradients: bool = True
    scale: float = 1.0
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
        loss = loss * self.scale if self.scale != 1 else loss
        with torch.autograd.set_detect_anomaly(False):  # it would raise before all gradients are seen
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


def outside(step: ReplayStep) -> list[tuple[str, str, Tensor]]:
    """Return the tensors that the step did not make: batch, parameters and buffers."""
    # An array and the tensor that `torch.from_numpy` makes of it are one memory.
    batch = [(path, torch.from_numpy(leaf) if is_floats(leaf) else leaf) for path, leaf in leaves(step.batch)]
    outside = [("input", path, leaf) for path, leaf in batch if isinstance(leaf, Tensor)]
    outside += [("parameter", name, item) for name, item in step.module.named_parameters()]
    outside += [("buffer", name, item) for name, item in step.module.named_buffers()]
    return outside + [("attribute", name, item) for name, item in attribute_tensors(step.module)]


def attribute_tensors(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors that a model keeps in plain attributes, lists, dicts and queues."""
    for name, part in module.named_modules():
        for key, value in vars(part).items():
            if key[:1] != "_" and isinstance(value, Tensor | list | tuple | dict | deque):
                for path, leaf in leaves(value):
                    if isinstance(leaf, Tensor):
                        yield ".".join(filter(None, (name, key, path))), leaf


def _finite(tensor: Tensor) -> bool:
    return not any(broken(tensor))
