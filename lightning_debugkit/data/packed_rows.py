"""Batches whose samples lie behind one another, with a tensor that says which row is whose: owners, or offsets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lightning_debugkit.data.containers import leaves


def owners(batch: Any, count: int) -> Tensor | None:
    """Return of each row the position of its sample, ``(rows,)``, as the batch has it; ``None`` if it does not say.

    Args:
        count: How many samples the loader asked for: what names fewer or more is none of theirs.

    >>> owners({"values": torch.zeros(4, 2), "offsets": torch.tensor([0, 3, 4])}, 2)
    tensor([0, 0, 0, 1])
    """
    parts = [leaf for _, leaf in leaves(batch) if _is_plain(leaf)]
    lengths = {len(leaf) for leaf in parts if leaf.ndim > 1}
    found = [own for leaf in parts if (own := _told(leaf, count)) is not None and len(own) in lengths - {count}]
    are_one = len(found) > 0 and all(torch.equal(own, found[0]) for own in found)
    return found[0] if are_one else None


def bags(batch: Any) -> tuple[Tensor, ...]:
    """Return what a batch of bags of words has of each sample: what is as long as the offsets into its words.

    >>> bags((torch.tensor([4, 2, 9, 7, 7]), torch.tensor([0, 3]), torch.tensor([1, 0])))
    (tensor([1, 0]),)
    """
    parts = [leaf for _, leaf in leaves(batch) if _is_plain(leaf) and leaf.ndim == 1]
    found = [each for each in parts if any(_is_into(each, other) for other in parts)]
    if len(found) != 1:
        return ()
    return tuple(part for part in parts if part is not found[0] and len(part) == len(found[0]))


def _is_into(offsets: Tensor, words: Tensor) -> bool:
    """Tell whether these are the places, each behind the one before, where bags begin in a row of words."""
    is_whole = not any(part.is_floating_point() or part.is_complex() for part in (offsets, words))
    if not is_whole or offsets.dtype == torch.bool or not 1 < len(offsets) < len(words):
        return False
    values = offsets.detach().cpu().long()
    return not int(values[0]) and bool((values.diff() > 0).all()) and int(values[-1]) < len(words)


def of_rows(owner: Tensor, rows: Sequence[int]) -> list[int]:
    """Return the samples that rows belong to."""
    return sorted(set(owner[list(rows)].tolist()))


def sample(batch: Any, owner: Tensor, count: int, at: int) -> dict[str, Tensor]:
    """Return by path what a sample has in the batch; what names its rows is left out."""
    found = {}
    for path, leaf in leaves(batch):
        if _is_plain(leaf) and _told(leaf, count) is None and len(leaf) in (len(owner), count):
            part = leaf.detach().cpu()
            found[path] = part[owner == at] if len(leaf) == len(owner) else part[at : at + 1]
    return found


def _is_plain(leaf: Any) -> bool:
    return isinstance(leaf, Tensor) and leaf.layout is torch.strided and not leaf.is_nested and leaf.ndim > 0


def _told(leaf: Tensor, count: int) -> Tensor | None:
    """Return the owners that a tensor names, if it does: sorted positions of all samples, or where each begins."""
    is_whole = not (leaf.is_floating_point() or leaf.is_complex() or leaf.dtype == torch.bool)
    if leaf.ndim != 1 or not is_whole or count < 1 or len(leaf) <= count:
        return None
    values = leaf.detach().cpu().long()
    steps = values.diff()
    if int(values[0]) or bool((steps < 0).any()):
        return None
    if int(values[-1]) == count - 1 and bool((steps <= 1).all()):
        return values
    is_offsets = len(values) == count + 1 and int(values[-1]) > count
    return torch.repeat_interleave(torch.arange(count), steps) if is_offsets else None
