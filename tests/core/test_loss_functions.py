"""Prediction and target of a loss are told apart, whichever it is given first."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from lightning_debugkit.core.loss_functions import in_order
from lightning_debugkit.core.step_hooks import LossWatch
from lightning_debugkit.evaluation.predictions import loss_inputs

TARGET = torch.arange(4.0)
PREDICTION = torch.ones(4)


def is_target(tensor: Tensor) -> bool:
    return tensor is TARGET


@pytest.mark.parametrize("given", [(PREDICTION, TARGET), (TARGET, PREDICTION)])
def test_where_none_needs_a_gradient_the_target_is_what_is_of_the_batch(given: tuple[Tensor, Tensor]) -> None:
    assert in_order("mse_loss", *given, is_target) == (PREDICTION, TARGET)
    assert in_order("binary_cross_entropy", *given, is_target) == given, "which is no difference"


@pytest.mark.parametrize("is_first", [True, False])
def test_what_needs_a_gradient_is_the_prediction_though_it_is_of_the_batch(is_first: bool) -> None:
    """As of an input that is optimised."""
    learned = TARGET.clone().requires_grad_()
    given = (learned, PREDICTION) if is_first else (PREDICTION, learned)
    assert in_order("l1_loss", *given, lambda part: part is learned) == (learned, PREDICTION)


@pytest.mark.parametrize("is_first", [True, False])
def test_two_parts_of_the_batch_stay_as_they_were_given(is_first: bool) -> None:
    given = (TARGET, PREDICTION) if is_first else (PREDICTION, TARGET)
    assert in_order("huber_loss", *given, lambda part: True) == given


@pytest.mark.parametrize("is_first", [True, False])
def test_an_analysis_reads_the_target_of_a_validation_from_either_side(is_first: bool) -> None:
    with torch.no_grad(), LossWatch() as losses:
        F.mse_loss(*((TARGET, PREDICTION) if is_first else (PREDICTION, TARGET)))
    (found,) = loss_inputs.of(losses, [torch.zeros(4, 2), TARGET])
    assert torch.equal(found.target, TARGET)
    assert torch.equal(found.predictions, PREDICTION)
