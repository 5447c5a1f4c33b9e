"""Where predictions and targets lie: the names people give them, in what a step returns and in its batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor

from lightning_debugkit.core.step_hooks import is_detections

PREDICTIONS = ("logits", "probs", "preds", "pred", "predictions", "y_hat", "y_pred", "outputs", "scores")
TARGETS = ("target", "targets", "label", "labels", "y", "y_true")
IGNORED = -100  # a target of this value does not count: torch's own
Adapter = Callable[[Any, Any], Any]


@dataclass(frozen=True)
class Reading:
    """Predictions and targets of one batch, and the places where they were found, in words."""

    predictions: Any  # scores or classes, one row a sample; anything else only if an adapter gave it
    target: Any
    places: tuple[str, str]  # such as `("validation_step()['logits']", "batch[1]")`
    # targets of this value are not counted, if the loss function says so
    ignore_index: int | None = field(default=None)
    function: str = ""  # name of the loss function that was seen to compare the two, empty if none was
    given: Tensor | None = field(default=None)  # targets as they were, where shares of a yes have been made yes or no
    # which answers the step does not leave out of its loss by a mask of its own, `None` if all count
    counted: Tensor | None = field(default=None)
    is_followed: bool = True  # whether the losses of single answers, if there were such, were seen to be summed up

    def of_rows(self, rows: Tensor) -> Reading:
        """Return the same of some samples only."""

        def part(value: Any) -> Any:
            return value[rows.to(value.device)] if isinstance(value, Tensor) else [value[at] for at in rows.tolist()]

        return replace(self, predictions=part(self.predictions), target=part(self.target))

    @property
    def origin(self) -> str:
        """The places in words, for a sentence that ends with "from"."""
        return " and ".join(dict.fromkeys(self.places))


def adapted(adapter: Adapter, outputs: Any, batch: Any) -> Reading | None:
    """Return what an adapter makes of a step's outputs and batch: a pair, or a mapping with known keys."""
    given = adapter(outputs, batch)
    if isinstance(given, Mapping):
        predictions, target = named_reading(given, PREDICTIONS), named_reading(given, TARGETS)
        if predictions is None or target is None:
            return None
        return Reading(predictions[1], target[1], ("the adapter", "the adapter"))
    if isinstance(given, tuple | list) and len(given) == 2:
        return Reading(given[0], given[1], ("the adapter", "the adapter"))
    return None


def named_reading(held: Any, names: tuple[str, ...]) -> tuple[str, Any] | None:
    """Return the first of ``names`` that ``held`` has, with its value; mappings and objects with attributes alike.

    >>> named_reading({"x": 1, "label": 2}, TARGETS)
    ('label', 2)
    """
    for name in names:
        if isinstance(held, Mapping):
            if name in held:
                return name, held[name]
        elif not isinstance(held, Tensor | list) and isinstance(value := getattr(held, name, None), Tensor):
            return name, value
    return None


def predictions_in(outputs: Any, step: str) -> tuple[str, Any] | None:
    """Return the predictions among what a step returned, and their place in words."""
    found = named_reading(outputs, PREDICTIONS)
    if found is not None and _is_of_samples(found[1]):
        return f"{step}()[{found[0]!r}]", found[1]
    return (f"{step}()", outputs) if _is_of_samples(outputs) else None


def target_in(outputs: Any, batch: Any, step: str) -> tuple[str, Any] | None:
    """Return the targets among what a step returned or in its batch, and their place in words."""
    if isinstance(outputs, Mapping) and (found := named_reading(outputs, TARGETS)) and _is_of_samples(found[1]):
        return f"{step}()[{found[0]!r}]", found[1]
    if (found := named_reading(batch, TARGETS)) and _is_of_samples(found[1]):
        return f"batch[{found[0]!r}]", found[1]
    pair = isinstance(batch, tuple | list) and len(batch) > 1
    return ("batch[1]", batch[1]) if pair and _is_of_samples(batch[1]) else None


def is_rows(value: Any) -> bool:
    """Tell whether ``value`` is a tensor with something for each sample."""
    return isinstance(value, Tensor) and value.ndim >= 1


def squeezed(predictions: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Let ``(n, 1)`` against ``(n,)`` be what it means, whichever of the two has the dimension of size 1."""
    if target.ndim == 2 and target.shape[1] == 1 and predictions.ndim <= 2:
        target = target[:, 0]
    if predictions.ndim == target.ndim + 1 and predictions.shape[1] == 1:
        predictions = predictions.squeeze(1)
    elif target.ndim == predictions.ndim + 1 and target.shape[1] == 1:
        target = target.squeeze(1)
    return predictions, target


def class_dimension(predictions: Tensor, target: Tensor) -> int | None:
    """Return the dimension of scores in which the classes lie, ``None`` if they do not go with the targets."""
    if predictions.ndim != target.ndim + 1:
        return None
    for dim in (1, predictions.ndim - 1):
        if predictions.shape[:dim] + predictions.shape[dim + 1 :] == target.shape:
            return dim
    return None


def is_binary(target: Tensor) -> bool:
    """Tell whether targets are 0, 1 and what is ignored."""
    return bool(((target == 0) | (target == 1) | (target == IGNORED)).all())


def _is_of_samples(value: Any) -> bool:
    return is_rows(value) or is_detections(value)


def fit_together(predictions: Any, target: Any) -> bool:
    """Tell whether predictions and targets speak of the same samples."""
    if is_detections(predictions) or is_detections(target):
        return is_detections(predictions) and is_detections(target) and len(predictions) == len(target)
    return is_rows(predictions) and is_rows(target) and predictions.shape[0] == target.shape[0]


def both_readings(predictions: Any, target: Any) -> str:
    """Return what predictions and targets are, for a sentence that begins with "got".

    >>> import torch
    >>> both_readings(torch.zeros(5, 4), torch.zeros(32))
    'predictions of float32[5, 4] and targets of float32[32]: their lengths differ'
    """
    apart = is_rows(predictions) and is_rows(target) and len(predictions) != len(target)
    return (
        f"predictions of {shown_structure(predictions)} and targets of {shown_structure(target)}"
        + ": their lengths differ" * apart
    )


def shown_structure(value: Any, depth: int = 2) -> str:
    """Return types and shapes of ``value`` in short, for a sentence about what was seen.

    >>> import torch
    >>> shown_structure({"loss": torch.tensor(1.0), "meta": ["a"]})
    "{'loss': float32[], 'meta': list(str)}"
    """
    if isinstance(value, Tensor):
        return f"{str(value.dtype).removeprefix('torch.')}{list(value.shape)}"
    if isinstance(value, Mapping) and depth:
        inside = [f"{key!r}: {shown_structure(item, depth - 1)}" for key, item in list(value.items())[:8]]
        return f"{{{', '.join(inside)}}}"
    if isinstance(value, tuple | list) and depth:
        return f"{type(value).__name__}({', '.join(shown_structure(item, depth - 1) for item in value[:4])})"
    return "nothing" if value is None else type(value).__name__
