"""Overlaps of a prediction with a mask, such as Dice and IoU, that are made of logits where shares are meant."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Flag
from typing import Any

import torch
from torch import Tensor

from lightning_debugkit.core.tensor_notes import TensorNotes
from lightning_debugkit.preflight.loss_calls import LAYERS, Made
from lightning_debugkit.preflight.operations import PRODUCTS

SUMS = {"add", "__add__", "__radd__", "sub", "__sub__", "__rsub__", "rsub"}
TOTALS = {"sum", "mean"}
QUOTIENTS = {"div", "__truediv__", "true_divide", "divide", "__rtruediv__", "__rdiv__"}
KEEPS = {"clamp", "clip", "clamp_min", "view", "reshape", "flatten", "squeeze"}


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
        if name in QUOTIENTS and len(parts) == 2:
            below, above = known if name.startswith("__r") else known[::-1]
            return above == Part.SHARED and bool(below & (Part.SHARED | Part.WHOLE))
        part = Part.NOTHING
        if name in (PRODUCTS | SUMS) and len(parts) == 2 and _is_logits_and_mask(parts, made):
            part = Part.MARKED if name in PRODUCTS else Part.MIXED
        elif name in TOTALS and parts:
            if known[0] == Part.MARKED:
                part = Part.SHARED
            elif known[0] == Part.MIXED or _is_logits(parts[0], made):
                part = Part.WHOLE
            else:
                part = known[0]
        elif name in SUMS | KEEPS or (name in PRODUCTS and len(parts) == 1):
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
