"""Numbers that run away or die out over many steps: gradients and loss against the run's own history."""

from __future__ import annotations

import math
from collections import defaultdict, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from statistics import median
from typing import Any

from torch.optim import Optimizer

from lightning_debugkit.core.finding import Finding, Severity
from lightning_debugkit.core.optimizers import is_adaptive
from lightning_debugkit.core.rule import BROKEN_NUMBERS, NO_LEARNING, WILD_STEPS, Rule
from lightning_debugkit.monitors.observed_step import StepStats
from lightning_debugkit.replay.nonfinite_cause_messages import LossRise
from lightning_debugkit.stats.log_history import LogHistory

EXPLODING = Rule(
    "exploding-gradient",
    Severity.WARNING,
    "gradient norm {norm:.3g} of {module} is {ratio:.3g} times the norm of its weights; {yardstick}",
    "Lower the learning rate or set Trainer(gradient_clip_val=1.0); if it starts at step 0, look at the initialisation "
    "and the scale of inputs and targets.",
    section="gradients",
    can_follow=(*WILD_STEPS, "input-not-normalized"),
)
VANISHING = Rule(
    "vanishing-gradient",
    Severity.WARNING,
    "gradients fade towards the input: {ratio:.1e} of the weight norm in {module}, {top:.1e} in {strongest}",
    "Use ReLU-like activations with Kaiming initialisation, normalisation or residual connections before {module}.",
    section="gradients",
    can_follow=NO_LEARNING,
)
DIVERGING = Rule(
    "diverging-loss",
    Severity.WARNING,
    "loss runs away: {loss:.3g} now, {start:.3g} at the start, {best:.3g} at its best",
    "Lower the learning rate, by ten to begin with; check the sign of the loss.",
    section="loss",
    can_follow=BROKEN_NUMBERS,
)
FALLING = "the loss has no floor: {loss:.3g} now, {start:.3g} at the start, and it falls on"
SIGN = (
    "Check the sign of each term of the loss, such as that of a KL divergence or a log-likelihood: what is minimised "
    "needs a least value."
)
CONSTANT = Rule(
    "constant-loss",
    Severity.WARNING,
    "loss has been {loss:.6g} for {steps} steps, whatever the batch",
    "Check that the loss depends on the model's output: a softmax over one class, a cut graph or dead units do this.",
    section="loss",
    can_follow=(*NO_LEARNING, "output-range", "softmax-over-one", "zero-loss"),
)

_HISTORY = 20  # steps before a run can be judged by its own past
_FIRST = 3  # looks of a run that all compare gradients with weights
_STEP = 10  # full looks at weights are taken this often
_FADED = 1e-5  # gradient over weight norm: 100,000 steps of rate 1 would replace the weights
_FADES = 1e-4  # of the layer that has most, what the first layer's share of gradient over weight norm lies below
_LAYERS = 5  # fewer have no depth to speak of
_CORRELATION = 0.8  # of the share with depth, at least: a single small layer is no fading
_LOOKS = 3  # in a row that find it so
_RUNAWAY = 1e3  # times its size that a loss rises to, step by step, by steps that are too long (a choice)
_LITTLE = 0.01  # of a gradient, below which it is not the one that steps (a choice)
_HUGE = 1e4  # gradient over weight norm from which one step at a usual rate of 1e-4 replaces the weights


def _throughout(look: StepStats, ratios: Mapping[str, float]) -> bool:
    """Tell whether huge gradients are those of the network: the scale of a loss alone, Adam and its kin take out.

    Where they grow on their way through layers, most matrices have them; where the loss is of large numbers, such as
    the derivatives of a physical law, the last one may have them alone.
    """
    return not is_adaptive(look.optimizer) or 2 * sum(ratio > _HUGE for ratio in ratios.values()) > len(ratios)


class GradientTrends:
    """Judge loss and gradient norms against the run's own past and an absolute meaning."""

    def __init__(self) -> None:
        self.norms: defaultdict[int, LogHistory] = defaultdict(LogHistory)
        self.losses: deque[float] = deque(maxlen=_HISTORY)
        self.start: list[float] = []
        self._begin: float | None = None  # their median, once there are enough of them
        self.best = math.inf
        self.same = 0
        self.earlier = 0  # looks of a run that this one resumes
        self.looks: dict[int, int] = {}  # by optimizer, as the next two
        self.fading: dict[int, int] = {}
        self.huge: dict[int, int] = {}

    def weighs(self, optimizer: Optimizer) -> bool:
        """Tell whether the next step of ``optimizer`` is going to be compared with its weights."""
        looks = self.looks.get(id(optimizer), self.earlier)
        return looks < _FIRST or looks % _STEP == 0

    def gradients(self, look: StepStats) -> Iterator[Finding]:
        """Yield what is wrong with the size of this step's gradients."""
        if look.whole and 0 < look.norm < math.inf:
            key = id(look.optimizer)
            looks = self.looks.get(key, self.earlier)
            yield from self._exploding(look, key, looks)
            if looks % _STEP == 0:
                yield from self._vanishing(look, key)
            self.looks[key] = looks + 1

    def stepped(self, look: StepStats) -> None:
        """Take note of huge gradients that the hooks before the first steps have divided, as by a scale of the loss."""
        key = id(look.optimizer)
        if self.huge.get(key, 0) > 0 and self.looks.get(key, 0) < _FIRST and look.left() < _LITTLE:
            self.huge[key] = -_FIRST

    def _exploding(self, look: StepStats, key: int, looks: int) -> Iterator[Finding]:
        history = self.norms[key]
        leap = history.is_above(100, look.norm) and len(history) >= 4 and history.sigmas(look.norm) > 6
        if look.clipped or not (leap or looks < _FIRST):
            history.add(look.norm)
            return
        median_so_far, settled = history.median, len(history) >= _HISTORY
        history.add(look.norm)
        if not (ratios := look.ratios):
            return
        module, ratio = max(ratios.items(), key=lambda item: item[1])
        self.huge[key] = self.huge.get(key, 0) + (ratio > _HUGE)
        if leap and ratio > (10 if settled else 1000):
            yardstick = f"the whole gradient is {look.norm / median_so_far:.3g} times its median so far"
        elif looks == 2 and self.huge[key] == 3 and _throughout(look, ratios):
            yardstick = "it has been so from the first step"
        else:
            return
        norm = look.norms[list(look.names).index(module)]
        where = look.where.at(module)
        yield EXPLODING.found(where, norm=norm, ratio=ratio, total=look.norm, median=median_so_far, yardstick=yardstick)

    def _vanishing(self, look: StepStats, key: int) -> Iterator[Finding]:
        ratios = look.ratios
        module = next(iter(ratios), "")
        fading = bool(ratios) and ratios[module] < _FADED and fades(list(ratios.values()))
        self.fading[key] = self.fading.get(key, 0) + 1 if fading else 0
        if self.fading[key] < _LOOKS:
            return
        strongest = max(ratios, key=lambda name: ratios[name])
        where = look.where.at(module)
        yield VANISHING.found(
            where,
            ratio=ratios[module],
            strongest=strongest,
            top=ratios[strongest],
            norm=look.norms[list(look.names).index(module)],
        )

    def loss(self, look: StepStats) -> Iterator[Finding]:
        """Take up the loss of this step, and yield that it does not change at all, or that it runs away.

        Not called where several losses share the run (a GAN): each may rise while all is well.
        """
        loss = look.loss
        if loss is None or not look.whole or not math.isfinite(loss):
            return
        previous = self.losses[-1] if self.losses else math.nan
        self.losses.append(loss)
        if len(self.start) < _HISTORY:
            self.start.append(loss)
        alike = loss != 0 and abs(loss - previous) <= 1e-7 * abs(loss) and look.highest_rate > 0
        self.same = self.same + 1 if alike else 0
        # A fit of one full batch that has converged is constant, too: but not from the start, nor without a gradient.
        if self.same >= _HISTORY - 1 and (look.norm == 0 or (alike and abs(loss - self.start[0]) <= 1e-7 * abs(loss))):
            yield CONSTANT.found(look.where, loss=loss, steps=self.same + 1)
        if len(self.losses) == _HISTORY:
            yield from self._diverging(look)

    def _diverging(self, look: StepStats) -> Iterator[Finding]:
        now = median(self.losses)
        if self._begin is None:
            self._begin = median(self.start)
        begin = self._begin
        self.best = min(self.best, now)
        rising = self.losses[-1] > self.losses[0]
        is_falling = now < 0 and -now > 1000 * max(abs(begin), 1.0) and not rising
        if is_falling or (begin > 0 and self.best > 0 and rising and now > 10 * max(begin, self.best)):
            rule = replace(DIVERGING, says=FALLING, advice=SIGN) if is_falling else DIVERGING
            yield rule.found(look.where, loss=now, start=begin, best=self.best)

    def growth(self, rate: float) -> LossRise | None:
        """Return how the loss has risen in each of the last steps, ``None`` if not by far: ``rate`` led these steps.

        Of a step that is broken: where only one was before it, the first update may have been enough.
        """
        losses = list(self.losses)
        if rate > 0 and len(losses) == 1 and losses[0] > 0:
            return LossRise(losses[0], math.inf, 1, rate)
        at = len(losses) - 1
        while at > 0 and 0 < losses[at - 1] < losses[at]:
            at -= 1
        if rate <= 0 or not losses or losses[at] <= 0 or losses[-1] < _RUNAWAY * losses[at]:
            return None
        return LossRise(losses[at], losses[-1], len(losses) - 1 - at, rate)

    def has_fallen(self) -> bool:
        """Tell whether the loss is lower than at the start, or it is too early to tell."""
        return len(self.losses) < _HISTORY or min(self.losses) < 0.98 * min(self.start)

    def state_dict(self) -> dict[str, Any]:
        return {"losses": list(self.losses), "start": self.start, "best": self.best}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.losses.extend(state["losses"])
        self.start, self.best = list(state["start"]), state["best"]
        self.earlier = len(self.start)


def fades(ratios: Sequence[float]) -> bool:
    """Tell whether ``ratios``, input side first, shrink steadily from the output to the input side.

    Args:
        ratios: A positive size for each layer, in the order of the network.

    >>> fades([1e-9, 1e-8, 1e-6, 1e-4, 1e-2]), fades([1e-2, 1e-9, 1e-2, 1e-2, 1e-2])
    (True, False)
    """
    if len(ratios) < _LAYERS or min(ratios) <= 0 or ratios[0] >= _FADES * max(ratios):
        return False
    from scipy.stats import spearmanr  # late: it takes a while to import

    return bool(spearmanr(ratios, range(len(ratios))).statistic >= _CORRELATION)
