"""Losses that a program puts together by hand, followed to the number that is the loss, and overlaps."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from enum import Flag
from typing import Any, TypeAlias

import torch
from torch import Tensor

from lightning_debugkit.core.tensor_notes import TensorNotes
from lightning_debugkit.preflight.loss_calls import LAYERS, LossCall, Made
from lightning_debugkit.preflight.operations import DIFFERENCES, LOGARITHMS, PRODUCTS, SUMS
from lightning_debugkit.preflight.origins import BOTH, QUOTIENTS, Origin, Origins
from lightning_debugkit.preflight.output_activation import are_probabilities
from lightning_debugkit.replay.source_lines import SourceLine

CHOSEN = "log-probability of the labels"
PARTLY = "log-probability where the label is 1"
ROUNDING = 1e-4  # how far above 0 the logarithm of a probability may lie to which a small number was added
CHOICES = PRODUCTS | {"where"}
SHARES_HELD = 4  # of a step
LARGEST = 1 << 20  # entries of those
KINDS = 2  # weights of two classes
Parts: TypeAlias = tuple[Tensor, Tensor, Made | None]  # prediction, target, how the first was made
REDUCTIONS = {"mean", "sum"}
JOINS = SUMS | DIFFERENCES
KEEPS = {"clamp", "clip", "clamp_min", "view", "reshape", "flatten", "squeeze"}


class LabelShares:
    """What sigmoid says of labels of 0 and 1 in one step: told by its numbers, in whatever way it is written."""

    def __init__(self) -> None:
        self._held: list[Tensor] = []

    def follow(
        self, name: str, args: Sequence[Any], made_of: Callable[[Any], Made | None], origins: Origins | None
    ) -> bool:
        """Keep the shares where they meet labels; tell whether an operation takes the logarithm of such."""
        if name == "log":
            said = args[0].detach()
            return any(one.shape == said.shape and bool(((one - said).abs() <= ROUNDING).all()) for one in self._held)
        if name not in CHOICES or origins is None or len(self._held) >= SHARES_HELD:
            return False
        parts = [part for part in args[:3] if isinstance(part, Tensor)]
        shares = [part for part in parts if (made := made_of(part)) is not None and made.op == "sigmoid"]
        labels = [part for part in parts if origins.of(part) == Origin.BATCH and not part.requires_grad]
        if shares and labels and shares[0].shape == labels[0].shape and shares[0].numel() <= LARGEST:
            share, label = shares[0].detach(), labels[0].detach().float()
            if bool(((label == 0) | (label == 1)).all()):
                self._held.append(share * label + (1 - share) * (1 - label))
        return False


def likelihood(
    name: str,
    args: Sequence[Any],
    made_of: Callable[[Any], Made | None],
    origins: Origins | None,
    shares: LabelShares | None = None,
) -> Made | None:
    """Return what one operation makes of log-probabilities, ``None`` if its result is no such thing."""
    one, other = (*args[:2], None)[:2]
    made, beside = made_of(one), made_of(other)
    if shares is not None and shares.follow(name, args, made_of, origins):
        return Made(CHOSEN)
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

    One-hot rows choose, as do 0 and 1 with their complement beside. Other weights may be costs, and are meant; but for
    those that the probabilities themselves give, as in a focal loss, one or two for the classes, and constants.
    """
    if made.op == CHOSEN:
        return made if _are_shares(weights, logs, origins) else None
    is_log = made.op in LOGARITHMS | {"log"} and isinstance(weights, Tensor) and weights.shape == logs.shape
    if not is_log or origins.of(weights) != Origin.BATCH or bool((logs > ROUNDING).any()):
        return None
    weights = weights.float()
    if not bool(((weights >= 0) & (weights <= 1)).all()):
        return None
    if weights.ndim > 1 and any(are_probabilities(weights, dim) for dim in (1, weights.ndim - 1)):
        return replace(made, op=CHOSEN)
    return replace(made, op=PARTLY, weight=float(weights.mean()))


def _are_shares(weights: Any, logs: Tensor, origins: Origins) -> bool:
    """Tell whether logarithms keep their sign and meaning under these weights."""
    if not isinstance(weights, Tensor):
        return isinstance(weights, int | float) and weights > 0
    if not bool(((weights >= 0) & (weights <= 1)).all()):
        return False
    is_by_class = origins.of(weights) == Origin.BATCH and len(weights.unique()) <= KINDS
    return weights.shape == logs.shape and (weights.requires_grad or is_by_class)


class Differences:
    """The differences of one step, what each was made of, and the losses that are made of them."""

    def __init__(self) -> None:
        self.parts: TensorNotes[Parts] = TensorNotes()
        self._sizes: TensorNotes[tuple[str, Parts]] = TensorNotes()

    def follow(
        self,
        name: str,
        args: Sequence[Any],
        result: Tensor,
        made: Callable[[Any], Made | None],
        origins: Origins | None,
        place: Callable[[], SourceLine],
    ) -> LossCall | None:
        """Return the loss that one more operation completes, as the call of torch's function that it stands for.

        What is weighted on the way is not judged: a mask may hide what stands for "not measured".
        """
        one, other = (*args[:2], None)[:2]
        if name in DIFFERENCES:
            if isinstance(other, Tensor) and one.requires_grad != other.requires_grad and one.shape == other.shape:
                said, wanted = (one, other) if one.requires_grad else (other, one)
                parts = said.detach(), wanted.detach(), made(said)
                self.parts[result] = parts
                if origins is not None and origins.of(wanted) == Origin.BATCH and origins.of(said) == BOTH:
                    self._sizes[result] = "", parts
            return None
        held = self._sizes.get(one)
        function = _loss(name, other, held[0]) if held is not None else ""
        if held is None or not function:
            return None
        self._sizes[result] = function, held[1]
        if name not in REDUCTIONS or result.numel() != 1:
            return None
        said, wanted, how = held[1]
        return LossCall(function, said, wanted, {"reduction": name}, place(), how, result=result.detach())


def _loss(name: str, other: Any, before: str) -> str:
    """Return the loss of torch that one more operation on a difference is part of, empty if of none."""
    if name in REDUCTIONS:
        return before
    is_square = name == "square" or (name in ("pow", "__pow__") and isinstance(other, int | float) and other == 2)
    return "" if before else "mse_loss" if is_square else "l1_loss" if name == "abs" else ""


class Part(Flag):
    """What of an overlap a number has in it."""

    NOTHING = 0
    MARKED = 1  # logits where the mask is 1, entry by entry
    MIXED = 2  # logits and mask added, entry by entry
    SHARED = 4  # total of the first
    WHOLE = 8  # total of logits, or of the second


class Overlaps:
    """Follow the totals of logits through one step."""

    def __init__(self) -> None:
        self._of: TensorNotes[Part] = TensorNotes()

    def follow(self, name: str, args: Sequence[Any], result: Tensor, made: Callable[[Any], Made | None]) -> bool:
        """Tell whether a result is the share that a total of logits in a mask has in totals of logits."""
        parts = [arg for arg in args[:2] if isinstance(arg, Tensor)]
        known = [self._of.get(part) or Part.NOTHING for part in parts]
        if name in QUOTIENTS | {"__rtruediv__", "__rdiv__"} and len(parts) == 2:
            below, above = known if name.startswith("__r") else known[::-1]
            return above == Part.SHARED and bool(below & (Part.SHARED | Part.WHOLE))
        part = Part.NOTHING
        if name in (PRODUCTS | JOINS) and len(parts) == 2 and _is_logits_and_mask(parts, made):
            part = Part.MARKED if name in PRODUCTS else Part.MIXED
        elif name in REDUCTIONS and parts:
            if known[0] == Part.MARKED:
                part = Part.SHARED
            elif known[0] == Part.MIXED or _is_logits(parts[0], made):
                part = Part.WHOLE
            else:
                part = known[0]
        elif name in JOINS | KEEPS or (name in PRODUCTS and len(parts) == 1):
            for each in known:
                part |= each
        if part:
            self._of[result] = part
        return False


def _is_logits(tensor: Tensor, made: Callable[[Any], Made | None]) -> bool:
    how = made(tensor)
    return how is not None and how.op in LAYERS and tensor.numel() > 1


def _is_logits_and_mask(parts: Sequence[Tensor], made: Callable[[Any], Made | None]) -> bool:
    """Tell whether one of two is what a layer gives, and the other of its shape, of 0 and 1 alone."""
    for logits, mask in (parts, parts[::-1]):
        is_plain = type(mask) is Tensor and mask.layout is torch.strided and not mask.is_meta
        if is_plain and _is_logits(logits, made) and made(mask) is None and mask.shape == logits.shape:
            levels = mask.detach()
            return bool(((levels == 0) | (levels == 1)).all()) and bool((levels == 1).any())
    return False
