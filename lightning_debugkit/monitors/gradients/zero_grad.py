"""Gradients that are not cleared, or cleared at the wrong moment; found from the order of events."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.optim import Optimizer

from lightning_debugkit.core.finding import Finding, Severity, Where
from lightning_debugkit.core.host_copy import Later
from lightning_debugkit.core.optimizers import held_in
from lightning_debugkit.core.rule import Rule
from lightning_debugkit.monitors.observed_step import StepStats
from lightning_debugkit.stats.tensor_norms import is_readable, some, values, version

STALE = Rule(
    "stale-gradients",
    Severity.WARNING,
    "the gradients of the last {steps} steps were never cleared: each step adds its own to all before",
    "Call optimizer.zero_grad() once in each step, before backward{hint}.",
    section="gradients",
)
CLEARED = Rule(
    "gradients-cleared",
    Severity.WARNING,
    "gradients are cleared {when}: {loss_of_it}",
    "Call zero_grad() only after optimizer.step(), or just before the first backward of the step{hint}.",
    section="gradients",
)

_NOTHING = "the step has nothing to go by"
_HOOKS = (
    "; look in on_before_optimizer_step, configure_gradient_clipping and optimizer_step, which run between the two. "
    "Under automatic optimization Lightning clears them itself"
)
_SOME = 64  # weights of a parameter that stand for it
_MOST = 64  # events that wait for a step to tell of them
_TIMES = 3  # in a row, before a habit is told from an accident
_LONG = 1000  # steps in a row, or half of those planned, that a program may leave out on purpose (a choice)


@dataclass(frozen=True)
class _Check:
    """A gradient looked at before a backward: whether it was cleared, which its numbers may still have to tell."""

    first_of_batch: bool
    cleared: Later | None  # entries that are not zero; None where it is gone

    @property
    def is_cleared(self) -> bool:
        return self.cleared is None or self.cleared.number == 0


_GONE = (_Check(False, None), _Check(True, None))  # a gradient that is not there, by whether the batch begins


@dataclass
class _Tracked:
    """What is known of one optimizer, by one parameter that stands for all."""

    parameter: Tensor | None = None
    seen: tuple[int, int] | None = None  # storage and version of its gradient when last looked at
    events: list[_Check | bool] = field(default_factory=list)  # that wait; True for a backward, False for a step
    kept: bool = False  # nobody cleared the gradient since the last step
    fed: bool = False  # a backward has added to it since the last step
    lost: int = 0  # batches of this window whose gradient was cleared without a step
    stale: int = 0
    cleared: int = 0
    wasted: int = 0
    looked: tuple[int, int] | None = None  # storage and version when the step was looked at; None where it was zero
    vanished: int = 0  # steps in a row, from the first on, that found no gradient where the look had
    weights: Tensor | None = None  # some of the parameter's at the first of them

    @property
    def is_still(self) -> bool:
        """The weights are as they were at the first step that found no gradient."""
        if self.parameter is None or self.weights is None:
            return False
        return torch.equal(self.weights, some(self.parameter, _SOME))

    def happened(self, event: _Check | bool) -> None:
        """Take up what happens, at once where nothing before it waits for its numbers."""
        if self.events or (isinstance(event, _Check) and event.cleared is not None):
            self.events.append(event)
        else:
            self._take(event)

    def settle(self) -> None:
        """Take up what has waited, now that the numbers are known."""
        events, self.events = self.events, []
        for event in events:
            self._take(event)

    def _take(self, event: _Check | bool) -> None:
        if event is True:
            self.fed = True
        elif event is False:
            self.kept, self.fed = True, False
        elif event.is_cleared:
            self.lost += self.fed and event.first_of_batch
            self.kept = self.fed = False


class ZeroGrad:
    """Follow one gradient of each optimizer through backward, clearing and step.

    Whether a gradient that was written to is zero is asked of the device together with all else that a step asks.
    """

    def __init__(self) -> None:
        self.tracked: defaultdict[int, _Tracked] = defaultdict(_Tracked)
        self._long = _LONG
        self.is_told = False  # that a step had nothing to go by: no parameter can have had a gradient then

    def expect(self, total: float) -> None:
        """Take the number of steps that are planned, infinite if not known."""
        self._long = max(_TIMES, round(min(_LONG, total / 2)))

    def before_backward(
        self, optimizers: list[Optimizer], first_of_batch: bool, later: Callable[[Tensor], Later]
    ) -> None:
        """Notice whether a gradient was cleared since it was last seen.

        Args:
            first_of_batch: No backward of this batch came before.
            later: Takes what is to be read with the next step.
        """
        for optimizer in optimizers:
            track = self.tracked[id(optimizer)]
            if track.seen is None:
                continue
            grad, state = _gradient(track), _state(track.parameter)
            if grad is None or state is None or state[0] != track.seen[0]:
                track.happened(_GONE[first_of_batch])
            elif state != track.seen:  # clipping changes it in place, and so does a zero_grad that keeps it
                track.happened(_Check(first_of_batch, later(values(grad).any())))
            if len(track.events) > _MOST:
                track.settle()

    def after_backward(self, optimizers: list[Optimizer]) -> None:
        """Take note of the gradients that a backward left."""
        for optimizer in optimizers:
            track = self.tracked[id(optimizer)]
            if track.parameter is None or track.parameter.grad is None:
                track.parameter = _with_gradient(optimizer)
                track.seen = None
            state = _state(track.parameter)
            if state is not None and state != track.seen:
                track.happened(True)
            track.seen = state

    def before_step(self, look: StepStats, automatic: bool, alone: bool, is_sharded: bool = False) -> Iterator[Finding]:
        """Yield what is wrong with the gradients that are about to be used.

        Args:
            automatic: Lightning calls backward and step.
            alone: It is the only optimizer: every backward is meant for it.
            is_sharded: This rank holds a part of each gradient.
        """
        where, track = look.where, self.tracked[id(look.optimizer)]
        if track.events:
            track.settle()
        state = _state(track.parameter)
        # What is zero in a shard need not be so in the whole.
        is_zeroed = state != track.seen and not is_sharded and _is_zero(track, look)
        gone = track.fed and track.seen is not None and (state is None or is_zeroed)
        track.cleared = track.cleared + 1 if gone and not look.norm > 0 else 0
        track.stale = track.stale + 1 if track.kept and track.fed and not gone else 0
        track.wasted = track.wasted + 1 if track.lost and (automatic or alone) else 0
        if track.cleared == self._long:
            yield self._cleared(where, track.cleared)
        if track.wasted == _TIMES:
            told = f"{track.lost} of {track.lost + 1} batches of each step are lost"
            yield CLEARED.found(where, when="in every micro-batch", loss_of_it=told, hint="", lost=track.lost)
        if track.stale == _TIMES:
            hint = ", and let optimizer_zero_grad do its work" if automatic else ""
            yield STALE.found(where, steps=track.stale, hint=hint)
        track.lost = 0
        track.fed = False
        if track.vanished >= 0:
            track.looked = None if gone or is_sharded or look.overflows or not _norm(track, look) else state

    def multiplied_by_zero(self, look: StepStats) -> bool:
        """Tell whether somebody has multiplied a gradient by 0 since the backward that left it: it has signs yet."""
        track = self.tracked[id(look.optimizer)]
        grad = _gradient(track)
        if grad is None or track.seen is None or _state(track.parameter) == track.seen:
            return False
        return not bool(values(grad).any()) and not _is_cleared(values(grad))

    def after_step(self, optimizer: Optimizer, look: StepStats | None) -> Iterator[Finding]:
        """Remember the gradients that were used; yield that the hooks in between have cleared them all along."""
        track = self.tracked[id(optimizer)]
        track.seen = _state(track.parameter)
        track.happened(_GONE[False] if track.seen is None else False)
        if track.vanished < 0:
            return
        parameter, looked, track.looked = track.parameter, track.looked, None
        if parameter is None or looked is None or track.seen == looked or not all(map(_is_gone, held_in(optimizer))):
            track.vanished = -1
            return
        track.vanished += 1
        if track.weights is None:
            track.weights = some(parameter, _SOME)
        if track.vanished == _TIMES and not track.is_still:
            track.vanished = -1  # cleared behind the step
        elif look is not None and track.vanished == self._long and track.is_still:
            yield self._cleared(look.where, track.vanished, _HOOKS)

    def starves(self, optimizer: Optimizer) -> bool:
        """Tell whether hooks have left an optimizer nothing to go by so far: that its weights stay is no news."""
        return self.tracked[id(optimizer)].vanished >= _TIMES

    def _cleared(self, where: Where, steps: int, hint: str = "") -> Finding:
        self.is_told = True
        when = f"between backward and step, {steps} times in a row"
        return CLEARED.found(where, when=when, loss_of_it=_NOTHING, hint=hint)

    def conclude(self, looks: Iterable[StepStats]) -> Iterator[Finding]:
        """Yield, at the end of a run, what was cleared up to its end."""
        for look in looks:
            track = self.tracked[id(look.optimizer)]
            if _TIMES <= track.cleared < self._long:
                yield self._cleared(look.where, track.cleared)
            if _TIMES <= track.vanished < self._long and track.is_still:
                yield self._cleared(look.where, track.vanished, _HOOKS)


def _is_gone(parameter: Tensor) -> bool:
    """Tell whether there is no gradient, or one that was set to 0."""
    return parameter.grad is None or _is_cleared(values(parameter.grad))


def _is_cleared(grad: Tensor) -> bool:
    """Tell whether a gradient was set to 0; what was multiplied by 0, as by clipping to an infinite norm, has signs."""
    return not bool(grad.any()) and not bool(grad.signbit().any())


def _with_gradient(optimizer: Optimizer) -> Tensor | None:
    return next((p for p in held_in(optimizer) if p.grad is not None and is_readable(p.grad)), None)


def _gradient(track: _Tracked) -> Tensor | None:
    return None if track.parameter is None else track.parameter.grad


def _state(parameter: Tensor | None) -> tuple[int, int] | None:
    grad = None if parameter is None else parameter.grad
    if grad is None:
        return None
    try:
        return id(grad), grad._version
    except RuntimeError:  # it was made in inference mode
        return id(grad), version(grad)


def _is_zero(track: _Tracked, look: StepStats) -> bool:
    """Tell whether the gradient is zero; only where its norm is can the squares of small numbers have vanished."""
    grad = _gradient(track)
    if grad is None:
        return True
    return not _norm(track, look) and not bool(values(grad).any())


def _norm(track: _Tracked, look: StepStats) -> float:
    """Return the norm of the gradient as it was looked at, 0 where none was."""
    at = next((at for at, p in enumerate(look.parameters) if p is track.parameter), None)
    norm = math.nan if at is None else float(look.each[at])
    return 0.0 if math.isnan(norm) else norm
