"""What the clipping of one optimizer says about learning rate and threshold."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import replace
from statistics import median
from typing import Any

import numpy as np

from lightning_debugkit.core.finding import Finding, Severity
from lightning_debugkit.core.rule import Rule
from lightning_debugkit.monitors.clipping.clipped_step import ClippedStep
from lightning_debugkit.monitors.clipping.overflow import ZEROED
from lightning_debugkit.stats.heavy_tails import above_usual, tail_index

ALWAYS = Rule(
    "clipping-always",
    Severity.WARNING,
    "{share:.0%} of the last {steps} steps were clipped: median norm {norm:.3g} before and {after:.3g} after, "
    "coefficient {coefficient:.2g}",
    "Lower the learning rate, or raise the threshold of {cut} from {threshold:.3g} to about {suggested:.3g}, "
    "{yardstick}. If the loss falls as it should, leave both: the learning rate in effect is {coefficient:.2g} "
    "times yours.",
    section="clipping",
    can_follow=("clipping-scaled-gradients", "eval-mode-in-training", "stale-gradients"),
)
SEVERE = Rule(
    "clipping-severe",
    Severity.WARNING,
    "clipping leaves {coefficient:.2g} of the gradient in the last {steps} steps: median norm {norm:.3g} before, "
    "{after:.2g} after",
    "Raise the threshold of {cut} from {threshold:.3g} to about {suggested:.3g}, {yardstick}. "
    "Now only the direction of the gradient is left.",
    section="clipping",
    can_follow=("clipping-scaled-gradients", "eval-mode-in-training", "stale-gradients"),
)
NEVER = Rule(
    "clipping-never",
    Severity.INFO,
    "the threshold {threshold:.3g} was not reached in the {steps} steps looked at: the largest norm was {largest:.3g}, "
    "before and after; the coefficient was always 1",
    "Keep it as a safety net; to cut the largest tenth of the steps it would have to be {suggested:.3g}.",
    section="clipping",
)
ADVISED = Rule(
    "clipping-advised",
    Severity.WARNING,
    "gradient norms are heavy-tailed (tail index {index:.2g}) and nothing clips them: {count} of {steps} steps are "
    "above {times:.0f} times the usual {norm:.3g}, up to {largest:.3g}",
    "Set Trainer(gradient_clip_val={suggested:.2g}), the {percentile:.0f}th percentile of this run's norms; of the "
    "largest it keeps a coefficient of {coefficient:.2g}. Look at the samples of steps {at_steps}, too.",
    section="clipping",
    can_follow=("stale-gradients",),
)

_LEFT_ZEROS = (
    "the module's own clipping turned the gradients of the last {steps} steps into zeros, first at step {first}: "
    "median norm {norm:.3g} before, 0 after"
)
_IN_32_BITS = (
    "Print the factor that the gradients are multiplied by: threshold/norm is 0 where the norm overflows, as a sum of "
    "squares beyond 65504 does in float16. Take the norm in 32 bits, or call self.clip_gradients()."
)
_WINDOW = 100  # steps that are judged together
_SHORT = 20  # the same, for what needs no patience
_LONG = 1000  # steps from the first on that a program may leave out on purpose (a choice)
_ENOUGH = 50  # to call a threshold never reached
_MOST = 0.9
_HALVED = 0.5  # a median coefficient above this leaves the length of most steps to the gradient
_DIRECTION = 0.01
_PINNED = 0.01  # relative spread of what a cut leaves behind: a cut of unknown threshold is known by it
_LEVEL = 50  # steps whose median is the usual norm
_TAIL_FROM = 200
_SPIKE = 10.0
_SPIKES = 3
_FINITE_VARIANCE = 2.0
_KEPT = 2000  # norms remembered for the tail


class ClippingRules:
    """Judge the steps of one optimizer."""

    def __init__(self, percentile: float, is_auto: bool = False) -> None:
        self.percentile = percentile  # of the run's norms, suggested as threshold
        self.is_auto = is_auto  # the threshold follows a percentile: steps are clipped by design
        self.recent: deque[ClippedStep] = deque(maxlen=_WINDOW)
        self.norms: deque[tuple[int, float]] = deque(maxlen=_KEPT)  # step and norm
        self.steps = 0
        self.clipped = 0
        self.limited = 0  # steps with something that could have clipped
        self.largest = 0.0
        self.zeros = 0  # steps in a row, of those measured, that the module's own clipping left nothing of
        self._has_left = False  # it left something of one
        self._tail_due = _TAIL_FROM + _LEVEL

    def state_dict(self) -> dict[str, Any]:
        counts = {name: getattr(self, name) for name in ("steps", "clipped", "limited", "largest")}
        return {**counts, "norms": [list(pair) for pair in self.norms]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for name in ("steps", "clipped", "limited", "largest"):
            setattr(self, name, state.get(name, 0))
        self.norms = deque([(int(step), float(norm)) for step, norm in state.get("norms", [])], maxlen=_KEPT)

    def take(self, steps: Sequence[ClippedStep], *, is_adaptive: bool) -> Iterator[Finding]:
        """Yield what is wrong, now that ``steps`` are known, too.

        Args:
            steps: In order; all of this optimizer.
            is_adaptive: The optimizer divides by the size of the gradient itself, as Adam does.
        """
        for step in steps:
            self._count(step)
        if self.clipped and self.steps >= _SHORT:
            yield from self._severe()
            # All from the first step on may be a warm-up that means it.
            yield from self._zeroed() if self.zeros >= (_SHORT if self._has_left else _LONG) else ()
        if self.clipped and self.steps >= 2 * _WINDOW:
            # The first steps of a run are often larger than all that follow.
            yield from self._always(is_adaptive)
        yield from self._advised()

    def conclude(self, *, is_adaptive: bool) -> Iterator[Finding]:
        """Yield what can only be said, or is only sure, when the run is over."""
        yield from self._zeroed() if self.zeros >= _SHORT else ()
        if self.steps < 2 * _WINDOW and len(self.recent) >= 2 * _SHORT:
            self.recent = deque(list(self.recent)[len(self.recent) // 2 :], maxlen=_WINDOW)
            yield from self._always(is_adaptive)
        threshold = self.recent[-1].threshold if self.recent else None
        if not self.clipped and threshold is not None and self.limited >= _ENOUGH and not self.is_auto:
            yield NEVER.found(
                self.recent[-1].where,
                threshold=threshold,
                steps=self.limited,
                largest=self.largest,
                suggested=self.quantile(self.percentile),
            )

    def quantile(self, percentile: float) -> float:
        """Return that percentile of the norms remembered."""
        return float(np.percentile([norm for _, norm in self.norms], percentile)) if self.norms else 0.0

    def _count(self, step: ClippedStep) -> None:
        self.recent.append(step)
        self.steps += 1
        self.limited += step.by in ("norm", "value")
        self.clipped += step.is_clipped
        self.largest = max(self.largest, step.norm)
        if step.by == "module":  # of the others nothing is known but the norm before
            is_zero = step.is_clipped and step.after == 0
            self.zeros = self.zeros + 1 if is_zero else 0
            self._has_left |= not is_zero
        if step.is_whole:
            self.norms.append((step.where.step, step.norm))

    def _severe(self) -> Iterator[Finding]:
        steps = list(self.recent)[-_SHORT:]
        own = [step for step in steps if step.by == "module" and step.is_clipped]  # those that were measured
        is_zero = bool(own) and all(step.after == 0 for step in own)
        if not is_zero and _is_cut(steps) and median(step.coefficient for step in steps) < _DIRECTION:
            yield SEVERE.found(steps[-1].where, **self._told(steps))

    def _zeroed(self) -> Iterator[Finding]:
        own = [step for step in self.recent if step.by == "module"][-self.zeros :]
        told = {"steps": len(own), "first": own[0].where.step, "norm": median(step.norm for step in own)}
        yield replace(ZEROED, says=_LEFT_ZEROS, advice=_IN_32_BITS).found(
            own[0].where, severity=Severity.WARNING, **told
        )

    def _always(self, is_adaptive: bool) -> Iterator[Finding]:
        steps = list(self.recent)
        share = sum(step.is_clipped for step in steps) / len(steps)
        if share < _MOST or self.is_auto:
            return
        if median(step.coefficient for step in steps) < _HALVED and _is_cut(steps):
            # Adam and its kin take steps of the same length whatever the scale of the gradient; and where next to
            # nothing is left, that has been said.
            is_severe = median(step.coefficient for step in steps) < _DIRECTION
            severity = Severity.INFO if is_adaptive or is_severe else None
            yield ALWAYS.found(steps[-1].where, severity=severity, share=share, **self._told(steps))

    def _advised(self) -> Iterator[Finding]:
        if self.limited or self.clipped or self.steps < self._tail_due or len(self.norms) < _TAIL_FROM + _LEVEL:
            return
        norms = [norm for _, norm in self.norms]
        self._tail_due = self.steps * 5 // 4  # a look at the tail takes longer the more steps there are
        above = above_usual(norms, _LEVEL)
        index, upper = tail_index(above)
        spikes = [(step, norm) for (step, norm), x in zip(list(self.norms)[_LEVEL:], above, strict=True) if x > _SPIKE]
        if upper >= _FINITE_VARIANCE or len(spikes) < _SPIKES:
            return
        suggested = self.quantile(self.percentile)
        at_steps = [step for step, _ in sorted(spikes, key=lambda pair: -pair[1])[:5]]
        yield ADVISED.found(
            self.recent[-1].where,
            count=len(spikes),
            steps=len(norms),
            times=_SPIKE,
            norm=median(norms),
            largest=max(norms),
            index=index,
            upper=upper,
            percentile=self.percentile,
            suggested=suggested,
            coefficient=suggested / max(norms),
            at_steps=", ".join(map(str, sorted(at_steps))),
        )

    def _told(self, steps: Sequence[ClippedStep]) -> dict[str, Any]:
        """Return the numbers that every alert prints: norm before and after, coefficient, threshold."""
        threshold, is_norm = _threshold(steps)
        coefficient = median(step.coefficient for step in steps)
        usual = float(np.percentile([step.norm for step in steps], 90))
        return {
            "steps": len(steps),
            "norm": median(step.norm for step in steps),
            "after": median(step.after for step in steps),
            "coefficient": coefficient,
            "threshold": threshold,
            "cut": "norms" if is_norm else "entries",
            "suggested": usual if is_norm else threshold / max(coefficient, 1e-12),
            "yardstick": "below which nine of ten norms of these steps lie" if is_norm else "as much as was cut off",
            "norms": "exact" if steps[-1].is_exact else "measured",
        }


def _threshold(steps: Sequence[ClippedStep]) -> tuple[float, bool]:
    """Return the threshold, as told or as seen by what is left after it, and whether it is one of norms."""
    told = [step.threshold for step in steps if step.threshold is not None]
    if told:
        return median(told), steps[-1].by == "norm"
    is_norm = _is_pinned([step.after for step in steps])
    return median(step.after if is_norm else step.peak for step in steps), is_norm


def _is_cut(steps: Sequence[ClippedStep]) -> bool:
    """Tell whether it was a clipping that made the gradients smaller.

    Where a module changes its gradients by itself, that may be an average or a projection as well: a clipping is known
    by the norm, or the largest entry, that is the same after each.
    """
    own = [step for step in steps if step.by == "module" and step.is_clipped]
    return not own or _is_pinned([step.after for step in own]) or _is_pinned([step.peak for step in own])


def _is_pinned(values: Sequence[float]) -> bool:
    low, high = np.percentile(values, [10, 90])
    return bool(high - low <= _PINNED * high)
