"""A learning rate that collapses early or never arrives: wrong interval, wrong horizon, gamma 0."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from lightning_debugkit.core.compat import Trainer
from lightning_debugkit.core.finding import Finding, Severity, Where
from lightning_debugkit.core.name_lists import percent
from lightning_debugkit.core.rule import Rule

SCHEDULE = Rule("learning-rate-schedule", Severity.WARNING, "{told}", "{remedy}", section="learning-rate")

_LASTS = 20  # steps below, before a dip is a collapse
_LOW = 0.01  # of the peak


@dataclass(frozen=True)
class SchedulePlan:
    """One scheduler as Lightning was told to use it."""

    name: str  # its class
    interval: str  # `"step"` or `"epoch"`: what it is stepped by
    calls: float  # times it will be stepped in the run, infinite if not known
    horizon: float | None  # calls after which it is through, `None` if it has no end of its own
    reacts: bool  # it follows a metric, not a plan
    # calls for which the rate only rises, `None` if it does not begin so or that is not known
    warm_up: float | None = None
    by_hand: bool = False  # the program calls it, under manual optimization


@dataclass
class LearningRateSchedule:
    """Follow the highest learning rate of the run."""

    peak: float = 0.0
    first: float | None = None
    last: float = 0.0
    low: int = 0
    since: int = 0
    calls: int = 0  # by epoch, when it got there
    changes: int = 0
    always_up: bool = True
    still: int = 0  # looks since the rate last changed
    longest_still: int = 0  # before its last change

    def planned(self, where: Where, plans: Sequence[SchedulePlan]) -> Iterator[Finding]:
        """Yield schedulers whose horizon cannot fit the run, known before the first step."""
        for plan in plans:
            if plan.warm_up is not None and math.isfinite(plan.calls) and 1 < plan.calls < plan.warm_up:
                told = (
                    f"{plan.name} warms up for {plan.warm_up:g} calls, but this run calls it {plan.calls:g} times: the "
                    "rate never arrives"
                )
                remedy = _remedy(plan, is_short=True)
                numbers: dict[str, Any] = {"scheduler": plan.name, "interval": plan.interval, "calls": plan.calls}
                yield SCHEDULE.found(where, told=told, remedy=remedy, warm_up=plan.warm_up, **numbers)
                continue
            if plan.horizon is None or not math.isfinite(plan.calls):
                continue
            facts: dict[str, Any] = {
                "scheduler": plan.name,
                "interval": plan.interval,
                "calls": plan.calls,
                "horizon": plan.horizon,
            }
            if plan.name == "CosineAnnealingLR" and plan.calls > 2 * plan.horizon:
                told = (
                    f"CosineAnnealingLR reaches its minimum after {plan.horizon:g} calls, but is called {plan.calls:g} "
                    "times: the rate swings up and down"
                )
                yield SCHEDULE.found(where, told=told, remedy=_remedy(plan), **facts)
            elif plan.calls < 0.1 * plan.horizon and plan.horizon > 10:
                told = (
                    f"{plan.name} needs {plan.horizon:g} calls, but this run calls it {plan.calls:g} times: the rate "
                    "stays near its start"
                )
                yield SCHEDULE.found(where, told=told, remedy=_remedy(plan, is_short=True), **facts)

    def judge(self, where: Where, rate: float, total: float, plans: Sequence[SchedulePlan]) -> Iterator[Finding]:
        """Yield a collapse of the rate.

        Args:
            rate: Highest learning rate of all parameter groups.
            total: Optimizer steps planned, infinite if not known.
        """
        self._follow(rate)
        progress = where.step / total if math.isfinite(total) and total else 0.0
        if not plans or any(plan.reacts for plan in plans) or rate > _LOW * self.peak or self.peak == 0:
            self.low = 0
            return
        if self.low == 0:
            self.since, self.calls = where.step, where.epoch
        self.low += 1
        by_step = any(plan.interval == "step" for plan in plans)
        # Down to a hundredth with three quarters still to go: by epoch, within two calls. What stands still for longer
        # before it falls is a decay at milestones of the user's.
        early = self.since < 0.25 * total and (total < math.inf if by_step else max(self.changes, self.calls) <= 2)
        if self.low == _LASTS and early and progress < 0.9:
            told = (
                f"the learning rate fell to {rate:.1e}, {percent(rate / self.peak)} of its peak {self.peak:.1e}, "
                f"at step {self.since}" + (f" of {total:g}" if math.isfinite(total) else "")
            )
            plan = plans[0]
            facts: dict[str, Any] = {"rate": rate, "peak": self.peak, "since": self.since, "scheduler": plan.name}
            yield SCHEDULE.found(where, told=told, remedy=_remedy(plan), interval=plan.interval, **facts)

    def conclude(self, where: Where, plans: Sequence[SchedulePlan], steps: int) -> Iterator[Finding]:
        """Yield, at the end of fit, a rate that never arrived.

        Nothing if no rate was seen: steps past Lightning are not heard.
        """
        if not plans or steps < _LASTS or self.first is None:
            return
        facts: dict[str, Any] = {
            "first": self.first,
            "last": self.last,
            "scheduler": plans[0].name,
            "interval": plans[0].interval,
        }
        if self.peak == 0:
            remedy = _remedy(plans[0], is_short=True)
            yield SCHEDULE.found(where, told="the learning rate was 0 in the whole run", remedy=remedy, **facts)
        elif self.always_up and self.changes >= 2 and self.still <= self.longest_still:
            told = f"the learning rate was still rising at the last step: {self.first:.1e} to {self.last:.1e}"
            yield SCHEDULE.found(where, told=told, remedy=_remedy(plans[0], is_short=True), **facts)

    def _follow(self, rate: float) -> None:
        if self.first is None:
            self.first = self.last = rate
        if rate != self.last:
            self.changes += 1
            self.always_up &= rate > self.last
            self.longest_still, self.still = max(self.longest_still, self.still), 0
        else:
            self.still += 1
        self.last = rate
        self.peak = max(self.peak, rate)


def _remedy(plan: SchedulePlan, *, is_short: bool = False) -> str:
    """Return what to do; a run that is too short by steps already has fewer epochs still."""
    if plan.by_hand:
        return f"Give {plan.name} its horizon in the calls that the code makes of its step(): Lightning makes none."
    if is_short and plan.interval == "step":
        calls = f"the {plan.calls:g} calls of this run" if math.isfinite(plan.calls) else "this run"
        return f"Give {plan.name} a horizon that fits into {calls}, or train for longer."
    other = "epoch" if plan.interval == "step" else "step"
    return (
        f"Give {plan.name} its horizon in the unit it is called in (now interval='{plan.interval}'), or return "
        f"{{'scheduler': ..., 'interval': '{other}'}} from configure_optimizers."
    )


# Where each scheduler of torch keeps the number of calls after which it is through.
_HORIZONS = {"CosineAnnealingLR": "T_max", "OneCycleLR": "total_steps", "PolynomialLR": "total_iters"}
_JUDGED = 20  # calls, of which fewer are a trial
_POINTS = 20  # of the run at which a function of the count is asked
_MISTAKEN = 5  # times the run, from which on a warm-up is one of another unit and not of a longer run
_MANY = 1000  # points at which a function is asked over all steps, before it is asked step by step
_FAR = 1e6  # times the run, as far as is looked for the end of a warm-up


def plans_of(trainer: Trainer, total: float) -> list[SchedulePlan]:
    """Return the schedulers of ``trainer`` and how often this run will call each."""
    plans = []
    for config in trainer.lr_scheduler_configs:
        name = type(config.scheduler).__name__
        epochs = float(trainer.max_epochs) if trainer.max_epochs and trainer.max_epochs > 0 else math.inf
        if trainer.max_steps > 0 and math.isfinite(total):
            batches = trainer.num_training_batches or 1
            epochs = min(epochs, math.ceil(total * trainer.accumulate_grad_batches / batches))
        calls = (total if config.interval == "step" else epochs) / (config.frequency or 1)
        by_hand = not trainer.lightning_module.automatic_optimization
        if calls < 1 or by_hand:
            calls = math.inf  # how often is for the program to say: Lightning calls it never
        horizon, reacts = _horizon(config.scheduler, name), bool(config.reduce_on_plateau)
        warm_up = _warm_up(config.scheduler, calls, 0.0 if config.interval == "step" else total)
        plans.append(SchedulePlan(name, config.interval, calls, horizon, reacts, warm_up, by_hand))
    return plans


def _horizon(scheduler: Any, name: str) -> float | None:
    found = getattr(scheduler, _HORIZONS[name], None) if name in _HORIZONS else None
    return float(found) if isinstance(found, int | float) and found > 0 else None


def _warm_up(scheduler: Any, calls: float, steps: float = 0.0) -> float | None:
    """Return the calls after which a rate that only rises at first is at its peak, ``None`` if there is no warm-up.

    Of few calls by epoch, a function of the count is one of the ``steps`` if its warm-up fits them. Only what follows
    from plain numbers, or from a function of the count alone, is read; nothing is stepped.
    """
    try:
        name = type(scheduler).__name__
        if name == "SequentialLR" and scheduler._schedulers and scheduler._milestones:
            inner = _warm_up(scheduler._schedulers[0], math.inf)
            return None if inner is None else min(inner, float(scheduler._milestones[0]))
        if name == "LinearLR" and scheduler.end_factor > scheduler.start_factor:
            return float(scheduler.total_iters)
        if name == "OneCycleLR":
            return float(scheduler._schedule_phases[0]["end_step"])
        if name == "LambdaLR" and math.isfinite(calls):
            factor = scheduler.lr_lambdas[0]
            return _rising(factor, int(calls)) if calls >= _JUDGED else _rising_by_step(factor, int(calls), steps)
    except Exception:  # a scheduler of another make
        return None
    return None


def _rising(factor: Any, calls: int) -> float | None:
    """Return a number beyond ``calls`` where a function of the count still rises evenly at the run's last call."""
    values = [float(factor(round(calls * i / _POINTS))) for i in range(_POINTS + 1)]
    if not all(after > before for before, after in pairwise(values)):
        return None
    stride = max(1, calls // _POINTS)

    def rises(count: int, by: int = stride) -> bool:
        return float(factor(count + by)) > float(factor(count))

    low, high = calls, calls
    while rises(high):
        low, high = high, 2 * high
        if high > _FAR * calls:  # one that rises for good is no warm-up
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if rises(middle) else (low, middle)
    while rises(high, by=1):  # a peak lies within the last stride
        high += 1
    return float(high) if high > calls else None


def _rising_by_step(factor: Any, calls: int, steps: float) -> float | None:
    """Return where a function of the count stops rising, if that is far beyond ``calls`` and within the ``steps``."""
    if not (calls >= 2 and _MISTAKEN * calls < steps < math.inf):
        return None
    stride = max(1, int(steps) // _MANY)
    points = [float(factor(0))]
    for count in range(stride, int(steps) + 1, stride):
        points.append(float(factor(count)))
        if points[-1] <= points[-2]:
            break
    # The peak lies between the last but two and the last point, or behind the last.
    begin = max(0, len(points) - 3) * stride
    last = float(factor(begin))
    for count in range(begin + 1, min(begin + 3 * stride, int(steps)) + 1):
        value = float(factor(count))
        if value <= last:
            return float(count - 1) if count - 1 >= _MISTAKEN * calls else None
        last = value
    return None
