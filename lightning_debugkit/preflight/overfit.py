"""Whether the program can learn a few samples by heart, as one that is wired rightly can."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from lightning_debugkit.core.compat import _DropoutNd
from lightning_debugkit.core.finding import Finding, Severity, Where
from lightning_debugkit.core.isolation import isolated
from lightning_debugkit.core.rule import Rule
from lightning_debugkit.data.batches import batch_size, take
from lightning_debugkit.preflight.attainable import Attainable, attainable, first_alike
from lightning_debugkit.preflight.listener import StepListener
from lightning_debugkit.preflight.loss_calls import LossCall
from lightning_debugkit.preflight.probe import NotProbed, Probe, inputs_of
from lightning_debugkit.replay.trace import Silent

# Four samples: few enough for a small model, enough for one answer to be wrong for most (A. Karpathy, A Recipe for
# Training Neural Networks, 2019, "overfit one batch").
SAMPLES = 4
STEPS = 50  # of the program's own optimizer
ADAM_STEPS = 100  # of Adam, at each of these rates
PATIENCE = 8  # times as many while the curve is on its way: a head on frozen layers takes three times as many
SECONDS = 10.0
# The program's own rate may be meant for a million steps. Only what Adam cannot learn either, at rates on both sides of
# its default, is called a fault.
RATES = (1e-3, 1e-2)
# Learnt: half of what separates the best answer for each sample from the best answer for all. A model of fewer weights
# than this for each number to learn may be too small for it.
HALF = 0.5
WEIGHTS = 10
SAME = 1e-4  # relative: the loss of the step is that of its one call

CANNOT_OVERFIT = Rule(
    "cannot-overfit-batch",
    Severity.WARNING,
    "{samples} samples cannot be memorised: the loss stays at {loss:.3g} after {tried}; "
    "one answer for all of them gives {constant:.3g}, and the right ones {least:.3g}",
    "Look at what lies between the inputs and the loss: a part that is cut off, an activation or a clamp that nothing "
    "passes, targets that the output cannot reach.",
    section="preflight",
    cost="once",
    can_follow=(
        "double-sigmoid",
        "double-softmax",
        "input-not-normalized",
        "missing-log-softmax",
        "no-gradient",
        "output-range",
        "shape-broadcast",
        "softmax-over-one",
        "symmetric-init",
        "unused-input",
        "zero-gradient",
    ),
)


@dataclass
class Overfitting:
    """What became of it."""

    samples: int = 0
    curves: dict[str, list[float]] = field(default_factory=dict)  # losses step by step, by what moved the weights
    reach: Attainable | None = None  # what the loss can reach, `None` where that is not known
    left_out: str = ""  # why it was not judged, empty if it was

    @property
    def goal(self) -> float:
        """The loss from which on the samples count as learnt."""
        return -math.inf if self.reach is None else self.reach.least + HALF * (self.reach.constant - self.reach.least)

    @property
    def best(self) -> float:
        """The least loss of all."""
        return min((loss for curve in self.curves.values() for loss in curve if math.isfinite(loss)), default=math.inf)

    def is_on_its_way(self, curve: list[float]) -> bool:
        """Tell whether the pace of its second half would reach the goal in as many steps more as may be made."""
        half = len(curve) // 2
        pace = (curve[half] - curve[-1]) / (len(curve) - half)
        return curve[-1] - pace * PATIENCE * ADAM_STEPS <= self.goal

    def judge(self, where: Where) -> Iterator[Finding]:
        """Yield that the samples could not be learnt."""
        if self.left_out or self.reach is None or self.best <= self.goal:
            return
        *others, last = (f"{len(curve)} steps of {name}" for name, curve in self.curves.items())
        yield CANNOT_OVERFIT.found(
            where, samples=self.samples, loss=self.best, tried=" and ".join(filter(None, [", ".join(others), last])),
            constant=self.reach.constant, least=self.reach.least,
        )  # fmt: skip

    def as_dict(self) -> dict[str, Any]:
        """Return what the report draws."""
        reach = None if self.reach is None else {"constant": self.reach.constant, "least": self.reach.least}
        return {"samples": self.samples, "curves": self.curves, "reach": reach, "left_out": self.left_out}


def overfit(probe: Probe, optimizers: list[Any]) -> Overfitting:
    """Learn a few samples of the probe's batch by heart; to be called within its session, which puts everything back.

    Noise is held: dropout is off, and each step draws the same random numbers.
    """
    found = Overfitting()
    try:
        _Learner(probe, optimizers, found).learn()
    except NotProbed as error:
        found.left_out = str(error)
    return found


class _Learner:
    """Runs the step on a few samples and moves the weights."""

    def __init__(self, probe: Probe, optimizers: list[Any], found: Overfitting) -> None:
        self.probe = probe
        self.module = probe.step.module
        self.optimizers = optimizers
        self.found = found
        self.until = time.monotonic() + SECONDS

    def learn(self) -> None:
        size = self.probe.size
        if not getattr(self.module, "automatic_optimization", True) or len(self.optimizers) != 1:
            raise NotProbed("the program steps its optimizers itself, or has several")
        if any(parameter.dtype is torch.float16 for parameter in self.module.parameters()):
            raise NotProbed("weights in half precision need a loss that is scaled")
        if size is None or size < 2:
            raise NotProbed("the batch cannot be split into samples")
        with isolated(self.module):
            self.batch, self.found.samples = self._chosen(size)
            self.found.reach = self._reach()
        self._train()

    def _chosen(self, size: int) -> tuple[Any, int]:
        """Return a few samples, of different targets where there are some."""
        calls = self._heard(self.probe.batch)
        order = list(range(size))
        for call in calls:
            if call.target.ndim and call.target.shape[0] == size:
                kinds: dict[bytes, int] = {}
                for at, row in enumerate(call.target.detach().cpu().contiguous()):
                    kinds.setdefault(row.numpy().tobytes() if row.dtype is not torch.bfloat16 else bytes([at]), at)
                first = list(kinds.values())
                order = [*first, *(at for at in order if at not in first)]
        chosen = order[:SAMPLES]
        try:
            batch = take(self.probe.batch, size, chosen)
        except Exception as error:
            raise NotProbed("the batch cannot be split into samples") from error
        return batch, len(chosen)

    def _reach(self) -> Attainable:
        """Return what the loss can reach; raises `NotProbed` where that is not known."""
        losses: list[Tensor] = []
        calls = self._heard(self.batch, losses)
        again: list[Tensor] = []
        self._heard(self.batch, again, is_restored=False)  # with other random numbers, if it draws any
        if len(calls) != 1 or calls[0].result is None or len(losses) != 1:
            raise NotProbed("its loss is not that of one loss function of torch alone")
        call, loss = calls[0], float(losses[0].sum())
        is_one = calls[0].result.numel() == 1
        if not is_one or not math.isfinite(loss) or abs(float(calls[0].result) - loss) > SAME * abs(loss):
            raise NotProbed("its loss is not that of one loss function of torch alone")
        if len(again) != 1 or abs(float(again[0]) - loss) > SAME * abs(loss):
            raise NotProbed("its loss is random by design")
        inputs = [part for _, part in inputs_of(self.batch, calls)]
        size = batch_size(self.batch) or 0
        reach = attainable(call, first_alike(inputs, size)) if call.target.shape[:1] == (size,) else None
        if reach is None or reach.constant - reach.least <= SAME * abs(reach.constant):
            raise NotProbed("one answer is right for all of its samples, or it cannot be told what the loss can reach")
        weights = sum(parameter.numel() for parameter in self._trained())
        if weights < WEIGHTS * call.target.numel():
            raise NotProbed(f"the model has {weights} weights for {call.target.numel()} numbers")
        return reach

    def _train(self) -> None:
        own = self.optimizers[0]
        self._learn(f"{type(own).__name__} as configured", lambda: _copied(own), STEPS)
        for rate in RATES:
            self._learn_with_adam(rate, ADAM_STEPS)
        for rate in reversed(RATES):
            if self.found.is_on_its_way(self.found.curves.get(f"Adam at {rate:g}", [math.nan])):
                self._learn_with_adam(rate, PATIENCE * ADAM_STEPS)
        if not self.found.curves:
            raise NotProbed("no optimizer can step on it")
        if self.found.best > self.found.goal and max(map(len, self.found.curves.values())) >= PATIENCE * ADAM_STEPS:
            raise NotProbed(f"they were still being learned after {PATIENCE * ADAM_STEPS} steps")

    def _learn_with_adam(self, rate: float, steps: int) -> None:
        self._learn(f"Adam at {rate:g}", lambda: torch.optim.Adam(self._trained(), lr=rate), steps)

    def _learn(self, name: str, make: Callable[[], Any], steps: int) -> None:
        if self.found.best <= self.found.goal:
            return
        self.found.curves[name] = []
        try:
            with isolated(self.module):
                self._run(make(), self.found.curves[name], steps)
        except NotProbed:
            raise
        except Exception:  # an optimizer that cannot be copied: Adam answers for it
            del self.found.curves[name]

    def _run(self, optimizer: Any, curve: list[float], steps: int) -> None:
        def closure() -> float:
            if time.monotonic() > self.until:
                raise NotProbed(f"it was not done in {SECONDS:g} s")
            for parameter in self.module.parameters():
                parameter.grad = None
            losses: list[Tensor] = []

            def backward(loss: Tensor, *args: Any, **kwargs: Any) -> None:
                losses.append(loss.detach())
                loss.backward()

            self._step(self.batch, backward)
            curve.append(float(losses[-1]) if losses else math.nan)
            return curve[-1]

        while len(curve) < steps:
            optimizer.step(closure)
            if not math.isfinite(curve[-1]) or curve[-1] <= self.found.goal:
                return
            if len(curve) % ADAM_STEPS == 0 and not self.found.is_on_its_way(curve):
                return

    def _trained(self) -> list[nn.Parameter]:
        held = [p for group in self.optimizers[0].param_groups for p in group["params"] if p.requires_grad]
        return list(dict.fromkeys(held))

    def _heard(self, batch: Any, losses: list[Tensor] | None = None, is_restored: bool = True) -> list[LossCall]:
        listener = StepListener(self.probe.names)
        with listener:
            kept = [] if losses is None else losses
            self._step(batch, lambda loss, *args, **kwargs: kept.append(loss.detach()), is_restored)
        return listener.calls

    def _step(self, batch: Any, backward: Any, is_restored: bool = True) -> None:
        if is_restored:
            self.probe.step.random.restore()
        for part in self.module.modules():
            if isinstance(part, _DropoutNd | nn.MultiheadAttention):  # which drops, too
                part.eval()
        try:
            with Silent():
                self.probe.step.run(batch, backward)
        except NotProbed:
            raise
        except Exception as error:
            raise NotProbed(f"the step raised {type(error).__name__} on {SAMPLES} samples") from error


def _copied(optimizer: Any) -> Any:
    """Return an optimizer of the same settings and the same parameters, at the rate that its schedule aims at."""
    shared = {id(p): p for group in optimizer.param_groups for p in group["params"]}
    made = copy.deepcopy(optimizer, shared)
    for group in made.param_groups:
        group["lr"] = group.get("max_lr", group.get("initial_lr", group["lr"]))
    return made
