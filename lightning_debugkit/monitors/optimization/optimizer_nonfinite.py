"""Weights that an optimizer's own arithmetic broke, from gradients that were finite."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from lightning_debugkit.core.finding import Finding, Severity, Where
from lightning_debugkit.core.name_lists import listed
from lightning_debugkit.core.rule import Rule
from lightning_debugkit.monitors.observed_step import StepStats
from lightning_debugkit.monitors.parameters.broken_at_start import broken_parameters
from lightning_debugkit.monitors.parameters.parameter_registration import common
from lightning_debugkit.replay.nonfinite_rules import PARAMETER
from lightning_debugkit.stats.tensor_norms import values, versions

OPTIMIZER = Rule(
    "optimizer-nonfinite",
    Severity.ERROR,
    "step {wrote} of {optimizer} wrote {value} into {names}, though its gradients were finite{why}",
    "{remedy}",
    section="optimization",
)

# Where optimizers keep the running mean of squares that they divide by.
_SQUARES = ("exp_avg_sq", "square_avg", "sum", "max_exp_avg_sq", "exp_inf")
_GENERIC = "Lower the learning rate, or look at what the step divides by; keep the weights in 32 bits."


@dataclass(eq=False)
class _Taken:
    """A step that an optimizer took from finite gradients."""

    look: StepStats
    sample: Sequence[Tensor] = ()
    versions: Sequence[int] = ()

    @property
    def is_last_write(self) -> bool:
        """Nothing is known to have written to the weights since."""
        return versions(self.sample) == self.versions


class Authors:
    """Remember the last sound step of each optimizer, so that broken weights can be put down to it.

    No copy of a weight is kept: all weights were finite when the fit began, and the numbers of each step up to its own
    were, too.
    """

    def __init__(self) -> None:
        self._seen: dict[int, StepStats] = {}
        self._taken: dict[int, _Taken] = {}
        self._idle: set[int] = set()

    def saw(self, look: StepStats) -> None:
        """Take note of a look that found all numbers finite."""
        if look.has_gradients:
            self._seen[id(look.optimizer)] = look
        else:
            self._idle.add(id(look.optimizer))  # a batch without a loss: the step before is still the last

    def stepped(self, optimizer: Optimizer) -> None:
        """Take note that the step of that look was taken."""
        look = self._seen.pop(id(optimizer), None)
        if look is None:
            if id(optimizer) not in self._idle:
                self._taken.pop(id(optimizer), None)
            self._idle.discard(id(optimizer))
            return
        sample = look.held.sample
        self._taken[id(optimizer)] = _Taken(look, sample, versions(sample))

    def release(self) -> None:
        """Let go of the model."""
        self._seen, self._taken = {}, {}

    def blame(self, where: Where, module: nn.Module) -> Finding | None:
        """Return the finding if weights are broken and an optimizer's last step was from finite gradients.

        Reads all parameters: for alarms and for the end of the fit.
        """
        # A look that no step has followed is of an optimizer that evaluates more than once in a step.
        inside = {key: _Taken(look) for key, look in self._seen.items()}
        steps = {**self._taken, **inside}
        broken = broken_parameters(module) if steps else []
        for taken in steps.values():
            look = taken.look
            fed = {name: i for i, name in enumerate(look.names) if look.norms[i] is not None}
            names = [name for name in broken if name in fed]
            if names:
                return _finding(where, taken, names, [look.parameters[fed[name]] for name in names])
        return None

    def instead(self, finding: Finding, module: nn.Module) -> Finding:
        """Return ``finding`` of a broken step, or the one of the optimizer that broke the weights before it."""
        found = self.blame(finding.where, module)
        if found is None:
            return finding
        keep = {key: value for key, value in finding.evidence.items() if key in ("batch_idx", "loss")}
        return replace(found, evidence={**keep, **found.evidence})

    def conclude(self, where: Where, module: nn.Module) -> Iterator[Finding]:
        """Yield what the last step of the fit broke: no look comes after it."""
        found = self.blame(where, module)
        if found is not None:
            yield found


def _finding(where: Where, taken: _Taken, names: Sequence[str], parameters: Sequence[Tensor]) -> Finding:
    look = taken.look
    name = type(look.optimizer).__name__
    value = "nan" if bool(torch.isnan(values(parameters[0])).any()) else "inf"
    cause, remedy = _cause(look, parameters[0])
    at = where.at(common(names))
    if not cause and not taken.is_last_write:
        found = PARAMETER.found(
            at,
            seen="weights are not finite",
            what=f"{listed(list(names))} hold {value} since step {look.where.step}: its gradients were "
            f"finite, and after it something else than {name} wrote to the weights",
            samples_text="",
            remedy="Look at code of yours that changes weights after the optimizer's step.",
        )
        return replace(found, evidence={"parameters": list(names), "wrote": look.where.step, "optimizer": name})
    found = OPTIMIZER.found(
        at,
        wrote=look.where.step,
        optimizer=name,
        value=value,
        names=listed(list(names)),
        why=f": {cause}" if cause else "",
        remedy=remedy or _GENERIC,
    )
    evidence = {"parameters": list(names), "wrote": look.where.step, "optimizer": name, "cause": cause, "value": value}
    return replace(found, evidence=evidence)


def _cause(look: StepStats, parameter: Tensor) -> tuple[str, str]:
    """Return what in the optimizer's arithmetic gives such a weight, and what to do about it; empty if not known."""
    group = next((g for g in look.optimizer.param_groups if any(p is parameter for p in g["params"])), {})
    wrong = [f"{key}={_number(value)}" for key, value in group.items() if _is_broken(value)]
    if wrong:
        return f"its option {wrong[0]} is not finite", "Look at where this option is computed, such as in a schedule."
    betas = group.get("betas")
    if isinstance(betas, tuple | list) and any(float(beta) >= 1 for beta in betas):
        return (
            f"betas={tuple(map(float, betas))}: with a beta of 1 the bias correction 1 - beta**t is 0, and it divides "
            "by it",
            "Give betas below 1, such as (0.9, 0.999).",
        )
    state = look.optimizer.state.get(parameter, {})
    state = state if isinstance(state, Mapping) else {}
    told = _of_state(look, parameter, group, state)
    return told if told[0] else _divided_by(values(parameter), state)


def _of_state(
    look: StepStats, parameter: Tensor, group: Mapping[str, Any], state: Mapping[str, Any]
) -> tuple[str, str]:
    bad = ~torch.isfinite(values(parameter))
    like = {k: values(t) for k, t in state.items() if isinstance(t, Tensor) and t.shape == parameter.shape}
    eps = group.get("eps")
    for key in _SQUARES:
        squares = like.get(key)
        if squares is None or not isinstance(eps, int | float):
            continue
        kind = str(squares.dtype).removeprefix("torch.")
        if bool((squares[bad] == 0).any()) and float(torch.tensor(float(eps), dtype=squares.dtype)) == 0:
            if eps == 0:
                told = f"eps=0, and {key} is 0 where a gradient was always 0 or too small to square: it divides by 0"
                return told, "Give eps above 0, such as 1e-8."
            return (
                f"eps={eps:g} rounds to 0 in {kind}, and {key} is 0 there, as the squares of small gradients "
                "underflow: it divides by 0",
                "Keep the weights in 32 bits (Trainer(precision='16-mixed' or 'bf16-mixed')), or give eps=1e-4.",
            )
        mean = like.get("grad_avg")
        if mean is not None and bool((squares[bad] - mean[bad] ** 2 < 0).any()):
            return "the centred variance rounds to below 0, and its root is nan", "Set centered=False, or a larger eps."
    for key, held in like.items():
        if held.is_floating_point() and not bool(torch.isfinite(held).all()):
            return f"its state {key} overflows {str(held.dtype).removeprefix('torch.')}", _GENERIC
    index = next((i for i, p in enumerate(look.parameters) if p is parameter), None)
    norm = None if index is None else look.norms[index]
    if index is not None and norm is not None and norm * abs(look.rates[index]) > torch.finfo(parameter.dtype).max:
        kind = str(parameter.dtype).removeprefix("torch.")
        return f"rate {look.rates[index]:.3g} times a gradient of norm {norm:.3g} overflows {kind}", _GENERIC
    if norm == 0 and bool(torch.isnan(values(parameter)).any()):
        return (
            "its gradient was 0 in each entry: a step that divides by the gradient's norm or size makes 0/0",
            "Add a small number to what the step divides by, or leave a parameter alone whose gradient is 0.",
        )
    return "", ""


def _divided_by(weights: Tensor, state: Mapping[str, Any]) -> tuple[str, str]:
    """Tell of an optimizer that nobody knows that its weights are NaN where a state of it is 0, and nowhere else.

    >>> _divided_by(torch.tensor([1.0, math.nan]), {"energy": torch.tensor([0.5, 0.0])})[0]
    'nan stands where its state energy is 0, and nowhere else: a step that divides by it makes 0/0'
    >>> _divided_by(torch.tensor([1.0, math.nan]), {"energy": torch.tensor([0.0, 0.0])})[0]
    ''
    """
    broken = torch.isnan(weights)
    like = {key: held for key, held in state.items() if isinstance(held, Tensor) and held.shape == weights.shape}
    zero = [key for key, held in like.items() if torch.equal(values(held) == 0, broken)]
    if not zero or bool(broken.all()):
        return "", ""
    return (
        f"nan stands where its state {listed(zero)} is 0, and nowhere else: a step that divides by it makes 0/0",
        "Add a small number, such as 1e-8, to what the step divides by: where no gradient came, the state is 0.",
    )


def _is_broken(value: Any) -> bool:
    if isinstance(value, Tensor):
        return value.numel() == 1 and value.is_floating_point() and not bool(torch.isfinite(value))
    if isinstance(value, tuple):
        return any(_is_broken(item) for item in value)
    return isinstance(value, float) and not math.isfinite(value)


def _number(value: Any) -> str:
    return str(tuple(map(float, value))) if isinstance(value, tuple) else f"{float(value):g}"
