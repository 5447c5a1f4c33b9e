"""The loss functions of `torch.nn.functional` that are heard, by what they compare. A new one is added here."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

INDEX_LOSSES = {"cross_entropy", "nll_loss"}
BINARY_LOSSES = {"binary_cross_entropy", "binary_cross_entropy_with_logits"}
DIFFERENCE_LOSSES = {"mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss"}
# Those whose predictions and targets evaluation takes up: of classes, and of values.
CLASS_LOSSES = INDEX_LOSSES | BINARY_LOSSES | {"multi_margin_loss", "multilabel_soft_margin_loss"}
VALUE_LOSSES = DIFFERENCE_LOSSES | {"poisson_nll_loss", "gaussian_nll_loss"}
# Those that the checks of the first steps understand.
CHECKED_LOSSES = INDEX_LOSSES | BINARY_LOSSES | DIFFERENCE_LOSSES | {"kl_div"}


def in_order(function: str, one: Tensor, other: Tensor, is_of_batch: Callable[[Tensor], bool]) -> tuple[Tensor, Tensor]:
    """Return what a loss was given as prediction and target: a difference may be given its target first.

    The prediction is what needs a gradient. Where none does, as in validation, the target is what is of the batch.
    """
    if function not in DIFFERENCE_LOSSES:
        return one, other
    if one.requires_grad != other.requires_grad:
        is_turned = other.requires_grad
    else:
        is_turned = is_of_batch(one) and not is_of_batch(other)
    return (other, one) if is_turned else (one, other)
