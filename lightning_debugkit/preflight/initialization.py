"""Weights before the first step: units that can never differ, biases that a norm takes away, a seed that nobody set."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import pairwise

import torch
from torch import Tensor, nn

from lightning_debugkit.core.compat import _BatchNorm
from lightning_debugkit.core.finding import Finding, Severity, Where
from lightning_debugkit.core.name_lists import listed
from lightning_debugkit.core.rule import Rule

# torch's own seed of a new process has more bits than anybody writes.
SEED_BITS = 32
SHOWN = 5
LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)

SYMMETRIC_INIT = Rule(
    "symmetric-init",
    Severity.WARNING,
    "all {units} units of {module} start with the same weights, and {next} gives them equal weights: {so}",
    "Initialise the weights of {module} at random, as torch does by default.",
    section="preflight",
    cost="once",
)
_EQUAL = "they get the same gradient in every step and stay equal"
_BY_BIAS = "they look at the same sum of all inputs, and only their biases tell them apart"
BIAS_BEFORE_NORM = Rule(
    "bias-before-norm",
    Severity.INFO,
    "batch norm cancels the bias of the layer before it: {names}",
    "Pass bias=False to these layers.",
    section="preflight",
    cost="once",
)
SEED_NOT_SET = Rule(
    "seed-not-set",
    Severity.INFO,
    "no seed was set: another run of this program starts with other weights and another order of the data",
    "Call seed_everything(0) before the model is built, or pass --seed_everything 0.",
    section="preflight",
    cost="once",
)


def judge(module: nn.Module, where: Where) -> Iterator[Finding]:
    """Yield what is wrong with the weights of ``module`` before they are trained."""
    parts = [(name, part) for name, part in module.named_modules() if isinstance(part, (*LAYERS, nn.RNNBase))]
    layers = [(name, part, weight) for name, part in parts if (weight := _trained_weight(part)) is not None]
    is_blank = len(layers) > 1 and not any(bool(weight.detach().any()) for *_, weight in layers)
    for (name, layer, weight), (after, _, fed) in pairwise(layers):
        units = layer.hidden_size if isinstance(layer, nn.RNNBase) else weight.shape[0]
        is_fed = units > 1 and units == fed.shape[1]
        if is_fed and _is_one_unit(layer, weight, is_blank) and _has_equal_columns(fed):
            yield SYMMETRIC_INIT.found(where.at(name), units=units, next=after, so=_EQUAL)
        elif is_fed and not isinstance(layer, nn.RNNBase) and _are_sums(weight) and _has_equal_columns(fed):
            yield SYMMETRIC_INIT.found(where.at(name), units=units, next=after, so=_BY_BIAS)


def judge_biases(module: nn.Module, where: Where) -> Iterator[Finding]:
    """Yield the layers with a bias that stand right before a batch norm in an `nn.Sequential`."""
    names = [
        f"{path}.{at}" if path else at
        for path, part in module.named_modules()
        if isinstance(part, nn.Sequential)
        for (at, layer), (_, norm) in pairwise(part.named_children())
        if isinstance(layer, LAYERS) and isinstance(norm, _BatchNorm)
        if _trained_weight(layer) is not None and layer._parameters.get("bias") is not None
    ]
    if names:
        yield BIAS_BEFORE_NORM.found(where, names=listed(names, SHOWN), layers=names)


def judge_seed(where: Where) -> Iterator[Finding]:
    """Yield that neither Lightning nor torch was given a seed."""
    if not os.environ.get("PL_GLOBAL_SEED") and torch.initial_seed() >= 1 << SEED_BITS:
        yield SEED_NOT_SET.found(where)


def _trained_weight(layer: nn.Module) -> Tensor | None:
    # Never by `layer.weight`: a parametrization computes it at each reading, and spectral norm moves on by a step.
    weight = layer._parameters.get("weight_ih_l0" if isinstance(layer, nn.RNNBase) else "weight")
    if weight is None or nn.parameter.is_lazy(weight):
        return None
    return weight if weight.ndim > 1 and weight.requires_grad else None


def _is_one_unit(layer: nn.Module, weight: Tensor, is_blank: bool) -> bool:
    """Tell whether all units of a layer are one, in what they read and in what they hear of each other."""
    if not isinstance(layer, nn.RNNBase):
        return _has_equal_rows(weight, layer._parameters.get("bias"), is_blank)
    # Of two directions each has its own units.
    if layer.bidirectional or layer.proj_size or not (is_blank or bool(weight.detach().any())):
        return False
    for name, part in layer.named_parameters(recurse=False):
        by_gate = part.detach().reshape(-1, layer.hidden_size, *part.shape[1:])
        is_heard = part.ndim > 1 and name != "weight_ih_l0"
        if not all(_is_one(gate.reshape(len(gate), -1)) for gate in by_gate) or (
            is_heard and not _has_equal_columns(part)
        ):
            return False
    return True


def _has_equal_rows(weight: Tensor, bias: Tensor | None, is_blank: bool) -> bool:
    """Tell whether all units of a layer are one; zeros, where others are none, are left to start branches with."""
    rows = weight.detach().flatten(1)
    if not _is_one(rows) or not (is_blank or bool(rows.any())):
        return False
    return bias is None or _is_one(bias.detach().reshape(-1, 1))


def _are_sums(weight: Tensor) -> bool:
    """Tell whether one number fills the weights: units of one input may be set apart by biases on purpose."""
    values = weight.detach()
    return values[0].numel() > 1 and bool(values.any()) and _is_one(values.reshape(-1, 1))


def _has_equal_columns(weight: Tensor) -> bool:
    return _is_one(weight.detach().movedim(1, 0).flatten(1))


def _is_one(rows: Tensor) -> bool:
    # Two rows first: those of healthy layers differ, and a large layer is not read whole.
    return bool((rows[0] == rows[-1]).all()) and bool((rows == rows[:1]).all())
