"""Steps that all together cannot move the weights: by the rate, or by a factor that takes the gradients away."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import replace
from statistics import median

import torch
from torch.optim import Optimizer

from lightning_debugkit.core.finding import Finding, Severity
from lightning_debugkit.core.optimizers import held_in
from lightning_debugkit.core.rule import Rule
from lightning_debugkit.monitors.clipping.clipping_rules import SEVERE
from lightning_debugkit.monitors.observed_step import StepStats, joint_norm
from lightning_debugkit.monitors.optimization.update_ratio import EARLY, WEAKENED_BY, UpdateRatio, shows

RATIO_LOW = Rule(
    "update-ratio-low",
    Severity.WARNING,
    "a step moves the weights by {way} of their size: all {total} {steps} together by less than a thousandth, and "
    "{loss}",
    "Raise the learning rate (it is {rate:.1e}), by ten to begin with, or use an optimizer that scales its steps.",
    section="learning-rate",
    cost="sampled",
    can_follow=("clipping-always", *WEAKENED_BY),
)

_FACTOR = (
    "the gradients are multiplied by {left:.1e} between backward and step: a step moves the weights by {way} of their "
    "size, all {total} {steps} together by less than a thousandth, and {loss}"
)
_LOOK = (
    "Look for the factor in on_before_optimizer_step, configure_gradient_clipping and optimizer_step, and for what it "
    "divides by."
)
_LITTLE = 0.01  # of the gradient, below which it is the factor that is to blame (a choice)
_SAME = 0.01  # relative difference of the factors of two steps; that of a threshold follows the norm


class CrawlingWeights:
    """Watch how far all planned steps of an optimizer can lead."""

    def __init__(self) -> None:
        self._highest_rate = 0.0
        self._asks = False  # how large gradients are behind the backward pass
        self._norms: dict[int, float] = {}  # that they were, by optimizer
        self._left = math.nan  # what they were multiplied by, in the step before

    def after_backward(self, optimizers: Iterable[Optimizer]) -> None:
        """Measure the gradients, where steps are too small and nobody knows yet why."""
        if self._asks:
            self._norms = {id(optimizer): _norm(optimizer) for optimizer in optimizers}

    def judge(
        self, watch: UpdateRatio, look: StepStats, total: float, fallen: Callable[[], bool], is_over: bool = False
    ) -> Finding | None:
        """Return the finding if all steps together cannot move the weights, and the loss does not fall.

        Args:
            watch: How far they moved, the step of ``look`` included.
            look: The step, before the weights were touched.
            total: Steps planned, infinite if not known.
            fallen: Tells whether the loss is lower than at the start.
            is_over: They have all been made.
        """
        key = id(look.optimizer)
        rate, steps = look.highest_rate, watch.steps.get(key, 0)
        is_rising = rate > self._highest_rate or (is_over and bool(watch.rising.get(key)))
        self._highest_rate = max(self._highest_rate, rate)
        is_due = is_over or look.where.step < total / 2 < math.inf
        if is_rising or not is_due or rate < self._highest_rate / 2:
            return None
        if min(look.where.step, steps) < 2 * EARLY or len(watch.ratios) < 5:
            return None
        ratio, way = (found := median(watch.ratios)), f"{found:.1e}"
        resolution = max(torch.finfo(p.dtype).eps for p in look.parameters)
        if not ratio:  # each move is less than half of what a weight of this type resolves
            ratio, way = resolution / 2, f"less than {resolution / 2:.1e}"
        if ratio * total >= 1e-3:
            return None
        before, self._left = self._left, self._part_left(look)
        is_cut = 0 < self._left < _LITTLE
        asked, self._asks = self._asks, not found
        if not found and not _rounds_away(watch, look, self._left if is_cut else 1.0):
            return None
        # Where nothing at all moves, not even what starts at 0, a loss that falls does so by chance.
        is_still = not found and max(watch.ways) * total < resolution
        if not is_still and fallen():
            return None
        self._asks = not is_over
        if not is_over and (not asked or (is_cut and math.isnan(before))):
            return None  # the next step tells whether it is a factor
        is_factor = is_cut and abs(self._left - before) <= _SAME * before
        rule = replace(SEVERE, says=_FACTOR, advice=_LOOK) if is_factor else RATIO_LOW
        return rule.found(
            look.where, way=way, ratio=ratio, total=int(total), rate=rate, left=self._left,
            steps="steps" if is_over else "planned steps",
            loss="the loss moves by chance alone" if is_still else "the loss has not fallen",
        )  # fmt: skip

    def _part_left(self, look: StepStats) -> float:
        """Return what part of the gradients the step was given, NaN if that is not known, or a scaler took it."""
        norm = self._norms.pop(id(look.optimizer), 0.0)
        return _norm(look.optimizer) / norm if norm > 0 and not look.is_scaled else math.nan


def _norm(optimizer: Optimizer) -> float:
    return joint_norm([p.grad for p in held_in(optimizer) if p.grad is not None])


def _rounds_away(watch: UpdateRatio, look: StepStats, left: float) -> bool:
    """Tell whether no matrix moves as its steps are too small to show, by an optimizer known to make each step."""
    if not type(look.optimizer).__module__.startswith("torch.optim"):  # others may gather gradients first
        return False
    groups = look.held.groups
    held = [
        shows(look.optimizer, parameter, watch.starts[name], look.group_rates[group], left)
        for name, parameter, dims, group in zip(look.names, look.parameters, look.dims, groups, strict=True)
        if dims > 1 and name in watch.starts and name not in watch.starved
    ]
    return bool(held) and not any(held)
