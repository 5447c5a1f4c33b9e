"""Log-probabilities of labels, also those that are put together by hand, followed to the number that is the loss."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from lightning_debugkit.preflight.loss_calls import Made
from lightning_debugkit.preflight.operations import DIFFERENCES, LOGARITHMS, PRODUCTS, SUMS
from lightning_debugkit.preflight.origins import QUOTIENTS, Origin, Origins
from lightning_debugkit.preflight.output_activation import are_probabilities

CHOSEN = "log-probability of the labels"
PARTLY = "log-probability where the label is 1"
ROUNDING = 1e-4  # how far above 0 the logarithm of a probability may lie to which a small number was added


def likelihood(
    name: str, args: Sequence[Any], made_of: Callable[[Any], Made | None], origins: Origins | None
) -> Made | None:
    """Return what one operation makes of log-probabilities, ``None`` if its result is no such thing."""
    one, other = (*args[:2], None)[:2]
    made, beside = made_of(one), made_of(other)
    if name in DIFFERENCES and beside is not None and beside.op == "logsumexp":
        is_own = beside.given is not None and beside.given() is one
        return replace(beside, op="log_softmax") if is_own else None
    if name in PRODUCTS and origins is not None:
        one, other, made = (one, other, made) if made is not None else (other, one, beside)
        return _weighted(made, one, other, origins) if made is not None else None
    if made is None:
        return None
    if name in SUMS and beside is not None and made.op == beside.op == PARTLY:
        return replace(made, op=CHOSEN) if math.isclose(made.weight + beside.weight, 1, rel_tol=1e-5) else None
    is_count = name in QUOTIENTS and not (isinstance(other, Tensor) and other.requires_grad)
    is_kept = name in ("mean", "sum") or (is_count and bool(torch.as_tensor(other > 0).all()))
    return made if is_kept and _is_of_labels(made) else None


def _is_of_labels(made: Made) -> bool:
    """Tell whether logarithms are those of the labels: of sigmoid only where labels weigh them.

    To make a judge's verdict unlikely is what the generator of Goodfellow et al. (2014) learns.
    """
    is_softmax = made.op == "log" and made.after is not None and made.after.op == "softmax"
    return is_softmax or made.op in ("log_softmax", CHOSEN)


def _weighted(made: Made, logs: Tensor, weights: Any, origins: Origins) -> Made | None:
    """Return what logarithms become by labels.

    One-hot rows choose, as do 0 and 1 with their complement beside. Other weights may be costs, and are meant.
    """
    is_log = made.op in LOGARITHMS | {"log"} and isinstance(weights, Tensor) and weights.shape == logs.shape
    if not is_log or origins.of(weights) != Origin.BATCH or bool((logs > ROUNDING).any()):
        return None
    weights = weights.float()
    if not bool(((weights >= 0) & (weights <= 1)).all()):
        return None
    if weights.ndim > 1 and any(are_probabilities(weights, dim) for dim in (1, weights.ndim - 1)):
        return replace(made, op=CHOSEN)
    return replace(made, op=PARTLY, weight=float(weights.mean()))
