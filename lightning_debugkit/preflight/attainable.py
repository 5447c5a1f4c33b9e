"""What a loss can reach on a batch: with one answer for all samples, and with the best answer for each."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from lightning_debugkit.core.loss_functions import BINARY_LOSSES, DIFFERENCE_LOSSES, INDEX_LOSSES
from lightning_debugkit.preflight.loss_calls import LossCall

LARGEST = 1 << 20  # numbers that are predicted: of more the best answer is not asked
LEAST = 1e-7  # a probability whose logarithm no type overflows


@dataclass(frozen=True)
class Attainable:
    """Two values of a loss."""

    constant: float  # with the best answer that is the same for all samples
    # with the best answer for each: label smoothing, soft labels, and equal inputs with different targets keep it above
    # 0
    least: float


def attainable(call: LossCall, alike: Tensor) -> Attainable | None:
    """Return what the loss of a call can reach, ``None`` where that is not known.

    Args:
        call: The call; its own function is asked with the best answers, so that weights and reductions count.
        alike: (N,) number of the first sample with the same input.
    """
    if call.options.get("reduction", "mean") == "none" or call.target.ndim == 0 or not call.prediction.ndim:
        return None
    made = _answers(call)
    if made is None or len(made[0]) != len(alike):
        return None
    wanted, to_prediction = made
    one = wanted.mean(0, keepdim=True).expand_as(wanted)
    groups = torch.zeros(len(alike), *wanted.shape[1:], dtype=wanted.dtype).index_add_(0, alike, wanted)
    counts = torch.bincount(alike, minlength=len(alike)).clamp_min(1)
    own = (groups / counts.reshape(-1, *[1] * (wanted.ndim - 1)))[alike]
    constant, least = (float(_asked(call, to_prediction(answer))) for answer in (one, own))
    return Attainable(constant, min(least, constant))


def _answers(call: LossCall) -> tuple[Tensor, Callable[[Tensor], Tensor]] | None:
    """Return what each sample wants, ``(N, ...)``, such that the mean is the best for several, and how it is said."""
    target = call.target.cpu()
    if call.function in INDEX_LOSSES and call.prediction.ndim > 1:
        wanted = _distribution(call, target)
        return None if wanted is None else (wanted, _logarithms)
    if call.function in BINARY_LOSSES and call.prediction.shape == call.target.shape:
        weight = call.options.get("pos_weight")
        is_logits = call.function != "binary_cross_entropy"

        def to_prediction(p: Tensor) -> Tensor:
            if isinstance(weight, Tensor):
                p = weight.cpu() * p / (weight.cpu() * p + 1 - p).clamp_min(LEAST)
            p = p.clamp(LEAST, 1 - LEAST)
            return p.logit() if is_logits else p

        return target.float(), to_prediction
    if call.function in DIFFERENCE_LOSSES and call.prediction.shape == call.target.shape:
        return target.float(), lambda mean: mean  # of absolute differences it is a bound
    return None


def _logarithms(wanted: Tensor) -> Tensor:
    return (wanted / wanted.sum(1, keepdim=True).clamp_min(LEAST)).clamp_min(LEAST).log()


def _distribution(call: LossCall, target: Tensor) -> Tensor | None:
    """Return the distribution over classes each sample wants, ``(N, C, ...)``; zeros where none counts."""
    shape, smoothing = call.prediction.shape, float(call.options.get("label_smoothing", 0.0))
    if target.is_floating_point():
        wanted = target.float()
    else:
        counted = target != int(call.options.get("ignore_index", -100))
        kept = target.where(counted, 0)
        if bool(((kept < 0) | (kept >= shape[1])).any()):
            return None
        wanted = F.one_hot(kept, shape[1]).movedim(-1, 1) * counted.unsqueeze(1).float()
    if wanted.shape != shape:
        return None
    return wanted * (1 - smoothing) + wanted.sum(1, keepdim=True) * smoothing / shape[1]


def _asked(call: LossCall, prediction: Tensor) -> Tensor:
    options = {key: value.cpu() if isinstance(value, Tensor) else value for key, value in call.options.items()}
    target = call.target.cpu()
    target = target.float() if target.is_floating_point() else target
    loss: Tensor = getattr(F, call.function)(prediction, target, **options)
    return loss


def at_start(call: LossCall) -> dict[str, float]:
    """Return the ``loss`` of a call, and what it is for two who know nothing of the inputs; empty without both.

    ``uniform`` is the loss where all classes are alike, ln C, as untrained weights begin; ``constant`` that of the one
    answer that is best for all samples of the batch: the entropy of its labels, the variance of its targets.
    """
    result = call.result
    if result is None or result.numel() != 1 or call.options.get("reduction", "mean") != "mean":
        return {}
    made: dict[str, float] = {}
    if call.function == "cross_entropy" and call.prediction.ndim > 1:
        made["uniform"] = math.log(call.prediction.shape[1])
    elif call.function == "binary_cross_entropy_with_logits" and call.options.get("pos_weight") is None:
        made["uniform"] = math.log(2)
    if call.target.ndim and call.prediction.numel() <= LARGEST:
        reach = attainable(call, torch.zeros(len(call.target), dtype=torch.long))
        made |= {} if reach is None else {"constant": reach.constant}
    return {"loss": float(result), **made} if made else {}


def first_alike(inputs: list[Tensor], size: int) -> Tensor:
    """Return for each sample the first one whose inputs are all the same.

    >>> first_alike([torch.tensor([[1.0], [2.0], [1.0]])], 3)
    tensor([0, 1, 0])
    """
    found = torch.arange(size)
    for at in range(size):
        for before in range(at):
            if all(torch.equal(part[at], part[before]) for part in inputs if part.ndim and part.shape[0] == size):
                found[at] = before
                break
    return found
