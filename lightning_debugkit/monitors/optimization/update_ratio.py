"""How far the weights move at each step: not at all, too far, too little, or although they are frozen."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.optim import Optimizer

from lightning_debugkit.core.finding import Finding, Severity
from lightning_debugkit.core.host_copy import read
from lightning_debugkit.core.name_lists import listed
from lightning_debugkit.core.rule import Rule
from lightning_debugkit.monitors.observed_step import StepStats
from lightning_debugkit.monitors.parameters.frozen_modules import FROZEN
from lightning_debugkit.monitors.parameters.parameter_registration import common
from lightning_debugkit.stats.tensor_norms import each_norm, some, values, version

WEAKENED_BY = (
    "clipping-scaled-gradients",
    "clipping-severe",
    "gradients-cleared",
    "gradients-zeroed-by-clipping",
    "learning-rate-schedule",
)
NOT_UPDATED = Rule(
    "parameter-not-updated",
    Severity.WARNING,
    "{names}: the gradient is there, but {weights} have not changed in {steps} steps{why}",
    "{remedy}",
    section="parameters",
    cost="sampled",
    can_follow=WEAKENED_BY,
)
RATIO_HIGH = Rule(
    "update-ratio-high",
    Severity.WARNING,
    "{told} in {module}",
    "Lower the learning rate, by ten to begin with; a step should move weights by about a thousandth.",
    section="learning-rate",
    cost="sampled",
    can_follow=("clipping-before-backward", "eval-mode-in-training", "stale-gradients"),
)
EARLY = 10  # steps that are all measured
_OF_TORCH = {"defaults", "state", "param_groups", "step", "zero_grad"}  # attributes of any optimizer
_LATE = 100  # steps that an optimizer may gather gradients before its first move
_STRIDE = 50  # later steps are measured this often
_LITTLE = 0.01  # of a gradient, below which it is no wonder that the weights stay (a choice)
_TRACKED = 64  # entries of a tensor that stand for it
_MOST = 0.5  # of them, beyond which updates that round away are no matter of a few large weights (a choice)


@dataclass
class _Start:
    """Some entries of a parameter at the first step, those with the largest gradient."""

    entries: Tensor
    values: Tensor
    scale: float  # root mean square of its weights, no less than that of an initialisation by fan-in
    gradient: Tensor  # the largest entry of the first gradient, on its device

    def stayed(self, parameter: Tensor) -> float:
        """Return the share of the entries that are as they were."""
        return float((_entries(parameter, self.entries) == self.values).float().mean())


@dataclass
class UpdateRatio:
    """Compare weights before and after steps, on the first steps and then every fiftieth."""

    starts: dict[str, _Start] = field(default_factory=dict)
    before: dict[int, list[Tensor]] = field(default_factory=dict)
    frozen: dict[int, list[tuple[Tensor, int]]] = field(default_factory=dict)
    steps: dict[int, int] = field(default_factory=dict)
    ratios: deque[float] = field(default_factory=lambda: deque(maxlen=5))
    ways: deque[float] = field(default_factory=lambda: deque(maxlen=5))  # of the parameter that went farthest
    far: dict[str, int] = field(default_factory=dict)
    starved: set[str] = field(default_factory=set)
    rates: dict[int, Sequence[float]] = field(default_factory=dict)  # of each group, at the last look
    rising: dict[int, set[int]] = field(default_factory=dict)  # groups whose rate was lower at the look before
    moved: set[str] = field(default_factory=set)  # by a step of their optimizer
    # By what was left of their gradient when their optimizer had stepped without moving them: 0, or next to nothing.
    zeroed: set[str] = field(default_factory=set)
    weakened: set[str] = field(default_factory=set)
    evaluations: dict[int, int] = field(default_factory=dict)  # of the gradient, after the first of a step
    solvers: set[int] = field(default_factory=set)  # optimizers that solve on their own within a step

    def due(self, optimizer: Optimizer) -> bool:
        """Tell whether the next step of ``optimizer`` is measured."""
        step = self.steps.get(id(optimizer), 0)
        return step <= EARLY or step % _STRIDE == 0

    def before_step(self, look: StepStats) -> Iterator[Finding]:
        """Remember the weights, and yield those that did not move in the steps before."""
        key = id(look.optimizer)
        self.evaluations[key] = 0
        self.frozen.pop(key, None)
        if look.frozen:
            self.frozen[key] = [(p, version(p)) for p in look.frozen]
        if not self.due(look.optimizer):
            self.before.pop(key, None)
            return
        if self.steps.get(key, 0) == 0:
            self._begin(look)
        for name, norm, rate in zip(look.names, look.norms, look.rates, strict=True):
            if not norm or not rate or not math.isfinite(norm) or look.overflows:  # a clipping then leaves zeros
                self.starved.add(name)
        rates = self.rates.get(key, ())
        self.rising[key] = {
            at for at, (then, now) in enumerate(zip(rates, look.group_rates, strict=False)) if now > then
        }
        self.rates[key] = look.group_rates
        self.before[key] = [some(p, 1024) for p in look.parameters]
        if self.steps.get(key, 0) in (EARLY, _LATE):
            yield from self._unmoved(look, self.steps[key])
        if self.steps.get(key, 0) == EARLY and not self.is_solver(look.optimizer):
            yield from self._travelled(look, EARLY)

    def asked_again(self, optimizer: Optimizer) -> None:
        """Take note that ``optimizer`` asks for the gradient once more within a step.

        One look ahead is part of a step (SAM); with more, a step is a search of many moves, for which no rule of
        thumb says how far it should lead.
        """
        key = id(optimizer)
        self.evaluations[key] = self.evaluations.get(key, 0) + 1
        if self.evaluations[key] >= 2:
            self.solvers.add(key)

    def is_solver(self, optimizer: Optimizer) -> bool:
        """Tell whether its steps are searches of many moves."""
        return isinstance(optimizer, torch.optim.LBFGS) or id(optimizer) in self.solvers

    def after_step(self, optimizer: Optimizer, look: StepStats) -> Iterator[Finding]:
        """Yield what the step did that it should not; called from the optimizer itself, not for a skipped step."""
        key = id(optimizer)
        self.steps[key] = self.steps.get(key, 0) + 1
        frozen = self.frozen.pop(key, None)
        written = {id(p) for p, before in frozen if version(p) != before} if frozen else None
        if written:
            changed = [name for name, p in zip(look.names, look.parameters, strict=True) if id(p) in written]
            where = look.where.at(common(changed))
            yield FROZEN.found(
                where,
                what=f"the optimizer changes {listed(changed)}",
                remedy="Leave frozen parameters out of the optimizer, or set their .grad to None when freezing: "
                "momentum and weight decay move them as long as a gradient is there.",
                parameters=changed,
            )
        kept = self.before.pop(key, None)
        if kept is not None:
            yield from self._stepped(look, kept)

    def _begin(self, look: StepStats) -> None:
        weights = look.weigh()
        for name, parameter, weight in zip(look.names, look.parameters, weights, strict=True):
            grad = parameter.grad
            if grad is None or grad.layout is not torch.strided or not (held := values(grad)).numel():
                continue
            # Of a shard, the part that is here: what holds for its entries needs no others. A gradient made of several
            # layers may belong to a plain parameter.
            largest = held.reshape(-1).abs().topk(min(_TRACKED, held.numel()))
            entries = largest.indices % values(parameter).numel()
            fan_in = math.prod(parameter.shape[1:])
            scale = max(weight / parameter.numel() ** 0.5, fan_in**-0.5)
            self.starts[name] = _Start(entries, _entries(parameter, entries).clone(), scale, largest.values[0].clone())

    def conclude(self, looks: Iterable[StepStats]) -> Iterator[Finding]:
        """Yield, at the end of a run that was shorter than optimizers are waited for, what has never moved."""
        for look in looks:
            if EARLY < self.steps.get(id(look.optimizer), 0) < _LATE:
                yield from self._unmoved(look, self.steps[id(look.optimizer)], is_over=True)

    def _unmoved(self, look: StepStats, steps: int, is_over: bool = False) -> Iterator[Finding]:
        still: list[str] = []
        lost: list[str] = []
        least = 1.0
        rising = self.rising.get(id(look.optimizer), set())
        excused = self.starved | self.zeroed | self.weakened
        for name, parameter, group in zip(look.names, look.parameters, look.held.groups, strict=True):
            start = self.starts.get(name)
            if start is None or name in excused or not parameter.requires_grad:
                continue
            stayed = start.stayed(parameter)
            # A step below the resolution of a float cannot show: of 32 bits that is no fault, of 16 bits it is, unless
            # a warm-up is still to come to its rate.
            if parameter.dtype in (torch.bfloat16, torch.float16):
                if group not in rising and (stayed == 1 or (steps >= _LATE and stayed > _MOST)):
                    lost.append(name)
                    least = min(least, stayed)
            elif stayed < 1:
                continue
            elif shows(look.optimizer, parameter, start, look.group_rates[group]):
                # An optimizer that gathers gradients before its first move leaves the weights as they are in its own
                # step, and remembers something; where weights are put back, its step has moved them.
                gathers = name not in self.moved and _remembers(look.optimizer, parameter)
                if is_over or steps >= _LATE or not gathers:
                    still.append(name)
        for names, weights, why, remedy in (
            (still, "the weights", "", "Look for code that puts the weights back or steps another copy of them."),
            (
                lost,
                "the weights" if least == 1 else "most of the weights",
                ": each update is smaller than 16 bits can show",
                "Keep the weights in 32 bits: Trainer(precision='bf16-mixed') instead of 'bf16-true'.",
            ),
        ):
            if names:
                where = look.where.at(common(names))
                yield NOT_UPDATED.found(
                    where, names=listed(names), weights=weights, steps=steps, why=why, remedy=remedy, parameters=names
                )
        yield from self._kept_by_hooks(look, steps, is_over)

    def _kept_by_hooks(self, look: StepStats, steps: int, is_over: bool) -> Iterator[Finding]:
        """Yield what stays as its gradient is taken away before each step: a way to freeze."""
        named = zip(look.names, look.parameters, strict=True)
        kept = [n for n, p in named if n in self.zeroed - self.starved and self.starts[n].stayed(p) == 1]
        if kept and (is_over or steps >= _LATE):
            yield NOT_UPDATED.found(
                look.where.at(common(kept)), severity=Severity.INFO, names=listed(kept), weights="the weights",
                steps=steps, why=": a hook sets the gradient to 0 before each step", parameters=kept,
                remedy="Leave it if they are to stay as they are: requires_grad_(False) would save the work.",
            )  # fmt: skip

    def before_broken(self, look: StepStats) -> Iterator[Finding]:
        """Yield, at a step that breaks, that the few before it threw the weights far off, by the rate alone.

        Only of Adam and its kin, whose steps are about as large as the rate: a gradient that explodes is another cause.
        """
        steps = self.steps.get(id(look.optimizer), 0)
        if 0 < steps < EARLY and any("exp_avg_sq" in look.optimizer.state.get(p, {}) for p in look.parameters):
            yield from self._travelled(look, steps)

    def _travelled(self, look: StepStats, steps: int) -> Iterator[Finding]:
        """Yield the parameter that went farthest, if the first steps moved it five times its initial size."""
        held = zip(look.names, look.parameters, look.dims, strict=True)
        ways = [(self.way(name, p), name) for name, p, dims in held if dims > 1 and name in self.starts]
        found = max(ways, default=(0.0, ""))
        if found[0] > 5:
            many = f"{steps} steps" if steps > 1 else "one step"
            each = f", {_rounded(found[0] / steps):g} times at each," if steps > 1 else ""
            told = f"{many} moved the weights by {_rounded(found[0]):g} times their initial size{each}"
            where = look.where.at(found[1])
            yield RATIO_HIGH.found(where, told=told, ratio=_rounded(found[0] / steps))

    def _stepped(self, look: StepStats, kept: list[Tensor]) -> Iterator[Finding]:
        now = [some(p, 1024) for p in look.parameters]
        moves = each_norm([new - old for new, old in zip(now, kept, strict=True)])
        numbers = read(moves, each_norm(kept)).tolist()
        moved, sizes = numbers[: len(now)], numbers[len(now) :]
        for name, parameter, way, norm in zip(look.names, look.parameters, moved, look.norms, strict=True):
            if way:
                self.moved.add(name)
            elif norm and name in self.starts:
                left = 0.0 if parameter.grad is None else float(values(parameter.grad).norm()) / norm
                if left < _LITTLE:
                    (self.weakened if left else self.zeroed).add(name)
        matrices = [i for i, dims in enumerate(look.dims) if dims > 1 and sizes[i] > 0]
        whole = math.hypot(*(sizes[i] for i in matrices)) if matrices else 0.0
        if whole:
            self.ratios.append(math.hypot(*(moved[i] for i in matrices)) / whole)
            self.ways.append(max(moved))
        if self.steps[id(look.optimizer)] <= EARLY or self.is_solver(look.optimizer):
            return
        for i in matrices:
            name = look.names[i]
            start = self.starts.get(name)
            usual = max(sizes[i], start.scale * now[i].numel() ** 0.5) if start else sizes[i]
            ratio = moved[i] / usual
            self.far[name] = self.far.get(name, 0) + 1 if ratio > 0.5 else 0
            if self.far[name] == 3:
                ratio = _rounded(ratio)
                told = f"a step moves the weights by {ratio:g} {'times' if ratio > 1 else 'of'} their size"
                yield RATIO_HIGH.found(look.where.at(name), told=told, ratio=ratio)

    def way(self, name: str, parameter: Tensor) -> float:
        """Return how far a parameter has come since the first step, by its initial size."""
        start = self.starts[name]
        moved = (_entries(parameter, start.entries) - start.values).float()
        return math.sqrt(float(moved.square().mean())) / start.scale


def _rounded(ratio: float) -> float:
    """Return as much of a ratio as is told of it: three digits, and ``81900`` is easier to read than ``8.19e+04``."""
    return float(f"{ratio:.3g}")


def _remembers(optimizer: Optimizer, parameter: Tensor) -> bool:
    """Tell whether the optimizer keeps anything from step to step, in its state or in attributes of its own."""
    own = {name for name in vars(optimizer) if not name.startswith("_")} - _OF_TORCH
    return bool(optimizer.state.get(parameter)) or bool(own)


def shows(optimizer: Optimizer, parameter: Tensor, start: _Start, rate: float, left: float = 1.0) -> bool:
    """Tell whether a step of this rate must change the bits of the entries with the largest gradient.

    Args:
        left: What the first gradient, as it was looked at, was multiplied by before its step.
    """
    resolution = torch.finfo(parameter.dtype).eps * float(start.values.abs().max())
    state = optimizer.state.get(parameter, {})
    # Of Adam and its kin a step is about as large as the rate, and smaller for gradients below eps.
    if "exp_avg_sq" in state:
        gradient, eps = left * float(start.gradient), optimizer.defaults.get("eps")
        held_back = gradient / (gradient + eps) if isinstance(eps, float) and eps else 1.0
        return rate * held_back > 100 * resolution
    if parameter.grad is None:  # let go of by the end of the run
        return False
    return rate * float(values(parameter.grad).abs().max()) > 100 * resolution


def _entries(parameter: Tensor, entries: Tensor) -> Tensor:
    """Return some entries of what this rank holds of a parameter."""
    return values(parameter).reshape(-1)[entries]
