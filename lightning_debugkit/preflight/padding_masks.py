"""A padding mask that is turned round: attention looks at the padding, and at nothing else."""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

import torch
from torch import Tensor

from lightning_debugkit.preflight.loss_calls import ATTENTION
from lightning_debugkit.replay.source_lines import SourceLine

MULTI_HEAD, FILL = "multi_head_attention_forward", "masked_fill"
ADD = "add"
ADDING = {"add", "__add__", "__radd__", "add_", "__iadd__"}
MASKING = {MULTI_HEAD, ATTENTION, FILL, "masked_fill_"} | ADDING
FORBIDDING = -1e3  # what scores are filled with so that softmax gives nothing to an entry


@dataclass(frozen=True)
class TurnedMask:
    """A call of an attention whose mask leaves it nothing but padding."""

    op: str
    padding: str  # what its entries hold
    place: SourceLine


class PaddingMasks:
    """Compare the masks of one step with the sequences of its batch; nothing is kept alive."""

    def __init__(self, leaves: Iterable[Any]) -> None:
        self._sequences = [weakref.ref(leaf) for leaf in leaves if _is_plain(leaf) and _is_sequences(leaf)]

    @property
    def sequences(self) -> list[Tensor]:
        """Those of the batch, ids ``(N, S)`` or features ``(N, S, F)``."""
        return [leaf for held in self._sequences if (leaf := held()) is not None]

    def turned(self, op: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
        """Return what the padding holds that alone is looked at, empty if the mask is none or does well."""
        leaves = self.sequences
        sizes = {tuple(leaf.shape[:2]) for leaf in leaves}
        if op in ADDING:
            masks = [m for m in args[:2] if _is_plain(m) and m.ndim > 2 and (len(m), m.shape[-1]) in sizes]
            seen = next((looked for mask in masks if (looked := _added(mask.detach())) is not None), None)
        else:
            seen = _looked_at(op, args, kwargs) if leaves else None
        rows = None if seen is None else _for_all(seen)
        return "" if rows is None else next(filter(None, (_padding(leaf, rows) for leaf in leaves)), "")


def _is_plain(value: Any) -> TypeGuard[Tensor]:
    return type(value) is Tensor and value.layout is torch.strided and not value.is_nested


def _is_sequences(leaf: Tensor) -> bool:
    """Tell whether a leaf holds ids ``(N, S)`` or features ``(N, S, F)``."""
    return (leaf.ndim == 2 and not leaf.is_floating_point()) or (leaf.ndim == 3 and leaf.is_floating_point())


def _looked_at(op: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Tensor | None:
    """Return which entries ``(N, ..., S)`` a mask leaves to be looked at, ``None`` if there is no such mask."""
    if op == MULTI_HEAD:
        mask = kwargs.get("key_padding_mask")
        looked = mask.detach() == 0 if _is_plain(mask) else None
    elif op == ATTENTION:
        mask = kwargs.get("attn_mask", args[3] if len(args) > 3 else None)
        looked = mask.detach() if _is_plain(mask) else None
        looked = looked if looked is None or looked.dtype == torch.bool else looked == 0
    else:
        mask, value = (kwargs.get(name, args[i] if len(args) > i else None) for i, name in ((1, "mask"), (2, "value")))
        is_forbidding = isinstance(value, int | float) and value <= FORBIDDING
        looked = ~mask.detach() if is_forbidding and _is_plain(mask) and mask.dtype == torch.bool else None
    return looked


def _added(scores: Tensor) -> Tensor | None:
    """Return where a mask that is added to scores is 0, ``None`` if it is none."""
    if not scores.is_floating_point() or not scores.numel() or float(scores.min()) > FORBIDDING:
        return None
    looked = scores == 0
    return looked if bool((looked | (scores <= FORBIDDING)).all()) else None


def _for_all(looked: Tensor) -> Tensor | None:
    """Return the rows ``(N, S)`` of a mask that is the same for all heads and queries, ``None`` if it is not."""
    if looked.ndim < 2 or not looked.numel():
        return None
    rows = looked.reshape(looked.shape[0], -1, looked.shape[-1])
    return rows[:, 0] if bool((rows == rows[:, :1]).all()) else None


def _padding(leaf: Tensor, looked: Tensor) -> str:
    """Return what the entries hold that are looked at, if just these are the padding at the end of each row."""
    if looked.shape != leaf.shape[:2] or not bool(looked.any()) or bool(looked.all()):
        return ""
    values = leaf.detach()
    if leaf.ndim == 3:
        blank, told = (values == 0).all(-1), "zeros"
    else:
        first = values[looked][0]
        blank, told = values == first, f"id {int(first)}"
        if not bool((values[~looked] != values[~looked][0]).any()):  # two ids in all: no padding is known by that
            return ""
    counts = looked.sum(1)
    ends = torch.arange(looked.shape[1], device=looked.device)[None] >= (looked.shape[1] - counts)[:, None]
    is_padding = bool((looked == blank).all()) and (
        bool((looked == ends).all()) or bool((looked == ends.flip(1)).all())
    )
    # What is one entry in each row may be meant, such as a first one that stands for all.
    return told if is_padding and int(counts.max()) > 1 and int(counts.min()) < looked.shape[1] else ""
