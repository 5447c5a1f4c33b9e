"""Which of the comparisons that loss functions made in a step is the one of its predictions with its targets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from lightning_debugkit.core.loss_functions import CLASS_LOSSES, VALUE_LOSSES, in_order
from lightning_debugkit.core.sharding import gathered_shards
from lightning_debugkit.core.step_hooks import LossWatch
from lightning_debugkit.core.tensor_numbers import shares_memory, storage
from lightning_debugkit.data.batches import tensors
from lightning_debugkit.evaluation.predictions import readings
from lightning_debugkit.evaluation.predictions.readings import IGNORED, Reading

_SHOWN = 6
_ROWS = 2


@dataclass(frozen=True)
class LossInputs:
    """What a loss tells of predictions and targets that were found elsewhere."""

    ignore_index: int | None = None  # targets of this value are not counted
    function: str = ""
    has_classes_last: bool = False  # whether scores have their classes last where the shape leaves it open
    has_classes: bool = False  # whether targets were given to the loss as classes: floats are classes written as such
    # which answers the step does not leave out of its loss by a mask, `None` if all count
    counted: Tensor | None = None
    is_followed: bool = True  # whether the losses of single answers, if it gave those, were seen to be summed up

    def applied(self, found: Reading) -> Reading:
        """Return a reading as the loss had it."""
        scores, target = found.predictions, found.target
        if self.has_classes_last:
            scores = scores.movedim(-1, 1)
        if self.has_classes and isinstance(target, Tensor) and target.is_floating_point():
            target = target.long()
        return replace(
            found,
            predictions=scores,
            target=target,
            ignore_index=self.ignore_index,
            function=self.function,
            counted=self.counted,
            is_followed=self.is_followed,
        )


def loss_inputs(compared: Sequence[Reading], scores: Any, target: Any) -> LossInputs | None:
    """Return what the loss of these scores and this target tells, ``None`` if none compared them."""
    call = next((call for call in compared if is_same(call, scores, target)), None)
    if call is None:
        return None
    is_whole = call.function in CLASS_LOSSES and not call.target.is_floating_point()
    as_classes = is_whole and call.target.numel() == target.numel()
    inputs = LossInputs(call.ignore_index, call.function, has_classes_last(call, scores), as_classes)
    return replace(inputs, counted=call.counted, is_followed=call.is_followed)


def is_of_residuals(call: Reading, batch: Any) -> bool:
    """Tell whether a loss of values was given one number everywhere that the step made itself, and no target.

    So errors are compared with nothing, as ``mse_loss(residual, torch.zeros_like(residual))``: that is no class 0.
    """
    if call.function not in VALUE_LOSSES or not call.target.numel():
        return False
    if any(shares_memory(call.target, leaf) for leaf in tensors(batch)):
        return False
    return bool((call.target == call.target.flatten()[0]).all())


def without_masked(found: Reading) -> Reading:
    """Return a reading whose targets that the step's mask leaves out of its loss are those to ignore."""
    if found.counted is None or bool(found.counted.all()) or not isinstance(found.target, Tensor):
        return replace(found, counted=None)
    if found.counted.numel() != found.target.numel():
        return replace(found, counted=None, is_followed=False)
    target = found.target if found.target.is_floating_point() else found.target.long()
    counted = found.counted.view(target.shape).to(target.device)
    return replace(found, target=torch.where(counted, target, IGNORED))


def inputs_beside(compared: Sequence[Reading], scores: Any, target: Any) -> LossInputs:
    """Return what the loss of a target tells of scores that a step returned: they need not be those of the loss."""
    found = loss_inputs(compared, scores, target)
    if found is None:
        return LossInputs()
    own = [call for call in compared if call.function == found.function and call.predictions.shape == scores.shape]
    is_own = any(_is_alike(call.predictions, scores) for call in own)
    return replace(found, function=found.function if is_own else "", has_classes_last=False)


def of(losses: LossWatch | None, batch: Any) -> list[Reading]:
    """Return what loss functions compared: comparisons with classes if there are any, else with values."""
    if losses is None:
        return []
    numbered = [
        (at, *call)
        for at, call in enumerate(losses.calls)
        if call[1].ndim and call[2].ndim and call[1].shape[0] == call[2].shape[0]
    ]
    classes = [call for call in numbered if call[1] in CLASS_LOSSES]

    def is_of_batch(part: Tensor) -> bool:
        return any(shares_memory(part, leaf) for leaf in tensors(batch))

    return [
        Reading(
            *in_order(name, scores, target, is_of_batch),
            (f"what {name}() was given",) * 2,
            ignored,
            name,
            counted=losses.masks.counted.get(at),
            is_followed=at not in losses.masks.single or at in losses.masks.reached,
        )
        for at, name, scores, target, ignored in classes or numbered
    ]


def shown_inputs(losses: LossWatch | None) -> str:
    """Return the calls of loss functions in short, for a sentence about what was seen."""
    calls = losses.calls if losses is not None else []
    told = [
        f"{name}({readings.shown_structure(scores)}, {readings.shown_structure(target)})"
        for name, scores, target, _ in calls
    ]
    return "; ".join([*told[:_SHOWN], *(["..."] if len(told) > _SHOWN else [])])


def chosen_inputs(compared: Sequence[Reading], target: Any) -> int | None:
    """Return the place of the only comparison, or of the only one with the batch's own target; ``None`` if none is."""
    if len(compared) == 1:
        return 0
    if not isinstance(target, Tensor):
        return None
    # In a small batch targets made of the batch's own may have its values by chance: the tensor itself comes first.
    for is_own in (lambda one, other: storage(one) == storage(other), _is_alike):
        own = [at for at, call in enumerate(compared) if is_own(call.target, target)]
        if len(own) == 1:
            return own[0]
    return None


def is_same(call: Reading, scores: Any, target: Any) -> bool:
    """Tell whether a loss compared these scores, or what was made of them, with this target, in whatever form."""
    if not isinstance(scores, Tensor) or not isinstance(target, Tensor):
        return False
    if call.predictions.numel() != scores.numel():
        return False
    if call.target.numel() == target.numel():
        return _is_alike(call.target, target)
    # Else it must be one-hot, or shares of the classes: what is neither is no form of this target.
    if call.target.shape != call.predictions.shape or call.target.ndim == 1:
        return False
    shares = gathered_shards(call.target)
    return any(_is_alike(shares.argmax(dim), target) for dim in (1, -1))


def has_classes_last(call: Reading, scores: Any) -> bool:
    """Tell where the classes are in scores whose shape does not: as many as there are places in a row.

    A loss takes them in the second dimension, or has rows of classes alone; what it was given tells which.
    """
    if not isinstance(scores, Tensor) or scores.ndim <= _ROWS or scores.shape[1] != scores.shape[-1]:
        return False
    if call.predictions.ndim == _ROWS:
        return _is_equal(call.predictions, scores.reshape(call.predictions.shape))
    return call.predictions.shape == scores.shape and not _is_equal(call.predictions, scores)


def _is_equal(one: Tensor, other: Tensor) -> bool:
    # A loss may have had whole what the step returns in parts: on all ranks that share the batch it is so.
    return torch.equal(gathered_shards(one), gathered_shards(other))


def _is_alike(one: Tensor, other: Tensor) -> bool:
    if one.numel() != other.numel():
        return False
    one, other = gathered_shards(one), gathered_shards(other)
    return torch.equal(one.flatten().float(), other.flatten().float().to(one.device))
