"""Optimizers and schedulers that the program steps by hand though Lightning steps them, too."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import (
    ChainedScheduler,
    CosineAnnealingWarmRestarts,
    LRScheduler,
    ReduceLROnPlateau,
    SequentialLR,
)

from lightning_debugkit.core.compat import LightningModule, Trainer, overrides
from lightning_debugkit.core.finding import Finding, Severity, Where
from lightning_debugkit.core.patching import hear_method
from lightning_debugkit.core.rule import Rule
from lightning_debugkit.replay.source_lines import users_line

OPTIMIZER = Rule(
    "optimizer-stepped-twice",
    Severity.WARNING,
    "{name} is stepped by the program{at}, and by Lightning, too{effect}",
    "Leave backward, step and zero_grad to Lightning, or set self.automatic_optimization = False and do all of them.",
    section="optimization",
)
SCHEDULER = Rule(
    "scheduler-stepped-twice",
    Severity.WARNING,
    "{name} is stepped by the program{at}, {extra} times in {steps} steps, and Lightning steps it at each {interval}, "
    "too",
    "Remove the call; to step it after each batch, return 'interval': 'step' beside the scheduler from "
    "configure_optimizers.",
    section="learning-rate",
)

_TIMES = 3  # in which it was seen, before a habit is told from an accident
_EPOCHS = 2  # the same, of what is to go by epochs
_INPLACE = "modified by an inplace operation"  # torch's words for a graph whose weights have moved since


@dataclass
class _Count:
    """What is known of one scheduler."""

    scheduler: Any
    interval: str
    counter: tuple[Any, str]  # what counts its calls: an object and its attribute
    seen: int  # calls when last looked at
    extra: int = 0  # calls that are not Lightning's
    times: int = 0  # looks at which there were such
    source: str = ""  # the line of the program that steps it


class DoubleSteps:
    """Compare the calls that optimizers and schedulers count with those that Lightning counts."""

    def __init__(self) -> None:
        self.counts: list[_Count] = []  # the schedulers that are followed
        self._automatic = self._own_optimizer_step = False
        self._by_lightning = 0
        self._begun: int | None = None  # step of the first batch
        self._before = 0  # optimizer steps, as the batch begins
        self._hits: dict[int, int] = {}  # by optimizer: its steps in this batch
        self._times = 0
        self._is_close = True  # who makes a step is asked: in the first steps, and once there were too many
        self._both = False
        self._source = ""
        self._told = False
        self._release: Callable[[], None] | None = None

    def before_batch(self, trainer: Trainer, module: LightningModule, where: Where) -> Iterator[Finding]:
        """Yield a scheduler that was stepped between the batches."""
        self._hits, self._before = {}, where.step
        if self._begun is None:
            self._begun = where.step
            self._begin(trainer, module)
        self._is_close = self._times > 0 or where.step < self._begun + _TIMES
        yield from self.look(trainer, where) if self.counts else ()

    def stepped(self, optimizer: Optimizer) -> None:
        """Count a step; called by the optimizer itself."""
        if not self._automatic or self._own_optimizer_step or (self._is_close and _calls_its_parents(optimizer)):
            return
        self._hits[id(optimizer)] = self._hits.get(id(optimizer), 0) + 1
        if self._is_close and self._times < _TIMES and not self._source:
            self._source = users_line().source

    def after_batch(self, trainer: Trainer, where: Where, optimizers: Sequence[Optimizer]) -> Iterator[Finding]:
        """Yield an optimizer that has made more steps than Lightning."""
        yield from self.look(trainer, where) if self.counts else ()
        if not self._automatic or self._told:
            return
        by_lightning = where.step - self._before
        for optimizer in optimizers:
            hits = self._hits.get(id(optimizer), 0)
            if hits <= by_lightning:
                continue
            self._times += 1
            self._both = self._both or by_lightning > 0
            if self._times >= _TIMES and self._both:
                self._told = True
                effect = f": {hits} updates a batch" if by_lightning else ", within a window of accumulation"
                yield self._found(where, optimizer, effect)

    def raised(self, where: Where, trainer: Trainer, error: BaseException) -> Iterator[Finding]:
        """Yield the step of the program's own that has moved weights which Lightning's backward still needs."""
        stepped = [optimizer for optimizer in trainer.optimizers if self._hits.get(id(optimizer))]
        if stepped and _INPLACE in str(error) and not self._told:
            yield self._found(
                where,
                stepped[0],
                ": it moves the weights before Lightning's backward, which then raises",
                severity=Severity.ERROR,
            )

    def release(self) -> None:
        """Let go of the schedulers, and leave their class as it was; may be called twice."""
        self.counts = []
        if self._release is not None:
            self._release()
            self._release = None

    def _found(self, where: Where, optimizer: Optimizer, effect: str, severity: Severity | None = None) -> Finding:
        at = f" at {':'.join(self._source.split(':')[:2])}" if self._source else ""
        name = type(optimizer).__name__
        return OPTIMIZER.found(where, severity=severity, name=name, at=at, effect=effect, source=self._source)

    def _begin(self, trainer: Trainer, module: LightningModule) -> None:
        self._automatic = module.automatic_optimization
        self._own_optimizer_step = overrides(module, "optimizer_step")
        self._by_lightning = scheduler_calls(trainer) or 0
        if not self._automatic or (overrides(module, "lr_scheduler_step") and not _calls_lightnings(module)):
            return  # how often it steps is then for the program to say
        for config in trainer.lr_scheduler_configs:
            counter = _counter(config.scheduler)
            if counter is None or not is_due(trainer, config):
                self.counts = []  # Lightning counts the calls of all of them together
                return
            self.counts.append(_Count(config.scheduler, config.interval, counter, getattr(*counter)))

    def look(self, trainer: Trainer, where: Where) -> Iterator[Finding]:
        """Yield a scheduler that was stepped since the last look, not by Lightning: in the training step, say."""
        made = [getattr(*count.counter) - count.seen for count in self.counts]
        if not any(made):
            return
        total = scheduler_calls(trainer)
        if total is None:
            self.counts = []
            return
        own, self._by_lightning = total - self._by_lightning, total
        extra = sum(made) - own
        for count, calls in zip(self.counts, made, strict=True):
            count.seen += calls
        if extra <= 0:
            return
        # Where Lightning has stepped as well, which of several it was is not known: the one with the most calls.
        guilty = max(zip(made, self.counts, strict=True), key=lambda pair: pair[0])[1]
        guilty.extra += extra
        guilty.times += 1
        if self._release is None and not guilty.source:
            self._listen(guilty)
        if guilty.times == (_TIMES if guilty.interval == "step" else _EPOCHS):
            self.release()
            yield self._doubled(where, guilty)

    def _listen(self, count: _Count) -> None:
        """Hear where the program calls it next."""

        def hear(scheduler: Any, *_: Any) -> None:
            if scheduler is count.scheduler and not count.source:
                count.source = users_line().source

        self._release = hear_method(type(count.scheduler), "step", hear)

    def _doubled(self, where: Where, count: _Count) -> Finding:
        return SCHEDULER.found(
            where,
            name=type(count.scheduler).__name__,
            at=f" at {':'.join(count.source.split(':')[:2])}" if count.source else "",
            interval=count.interval,
            extra=count.extra,
            steps=where.step - (self._begun or 0),
            source=count.source,
        )


def _counter(scheduler: Any) -> tuple[Any, str] | None:
    """Return what of a scheduler of torch counts its steps: an object and its attribute; ``None`` if nothing does."""
    if isinstance(scheduler, ChainedScheduler):
        return _counter(scheduler._schedulers[0])
    if type(scheduler) in (SequentialLR, ReduceLROnPlateau, CosineAnnealingWarmRestarts):
        return scheduler, "last_epoch"
    if isinstance(scheduler, LRScheduler) and type(scheduler).step is LRScheduler.step:
        return scheduler, "_step_count"
    return None


def _calls_its_parents(optimizer: Optimizer) -> bool:
    """Tell whether the step that has just ended is a part of the optimizer's own, as ``super().step()`` is."""
    frame: FrameType | None = sys._getframe(2)
    while frame is not None:
        code = frame.f_code
        if code.co_name == "step" and code.co_varnames and frame.f_locals.get(code.co_varnames[0]) is optimizer:
            return True
        if frame.f_globals.get("__name__", "").partition(".")[0] not in ("torch", "lightning_debugkit"):
            return False
        frame = frame.f_back
    return False


def is_due(trainer: Trainer, config: Any) -> bool:
    """Tell whether Lightning is going to step it: a frequency beyond the run leaves it to the program."""
    if config.interval == "step":
        return bool(config.frequency <= trainer.num_training_batches)
    epochs = trainer.max_epochs
    return epochs is None or epochs < 0 or bool(config.frequency <= epochs)


def _calls_lightnings(module: LightningModule) -> bool:
    """Tell whether a module's own ``lr_scheduler_step`` calls the one that it stands for, after steps of its own."""
    code = getattr(type(module).lr_scheduler_step, "__code__", None)
    return code is not None and {"step", "lr_scheduler_step"} <= set(code.co_names)


def scheduler_calls(trainer: Trainer) -> int | None:
    """Return how often Lightning has stepped learning-rate schedulers, all together; ``None`` where it does not say."""
    progress = getattr(trainer.fit_loop.epoch_loop, "scheduler_progress", None)
    return None if progress is None else int(progress.total.completed)
