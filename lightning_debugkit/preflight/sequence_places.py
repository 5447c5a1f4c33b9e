"""Which places of a sequence a prediction depends on: its padding, too, or its first place alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from lightning_debugkit.core.finding import Finding, Where
from lightning_debugkit.core.patching import Hearing
from lightning_debugkit.data.batches import batch_size, indexed, leaves, take
from lightning_debugkit.preflight.loss_calls import LossCall
from lightning_debugkit.preflight.probe import Probe, changed, distance, inputs_of
from lightning_debugkit.preflight.unused_input import UNUSED_INPUT

# Of the spread of the predictions, which padding moves by more: a convolution sees a little of it at the end of a text.
MATERIAL = 0.1
FEWEST = 4  # samples, and places of a sequence
PADDED = (
    "{path} says which places are padding, and nothing reads it: with its padding cut off, the prediction for a sample "
    "moves by up to {most:.2g} of their spread"
)
MASK = "Use {path}: as a mask of the attention, in a mean over the places that are not padding, or pack the sequences."
FIRST = (
    "{module} reads {places} places, and the prediction what it says at the first one alone, where it has seen nothing "
    "of the others: with other inputs there it stays the same"
)
LAST = "Take what it says at the last place, such as out[:, -1] or its last state, or the mean over all."


def judge_padding(probe: Probe, unread: Mapping[str, Tensor], where: Where) -> Iterator[Finding]:
    """Yield that predictions hang on padding, where the batch says what is padding and nothing reads that.

    Args:
        unread: Tensors of the batch that no operation of the step reads, by path.
    """
    size = probe.size
    for path, mask in unread.items() if size is not None and size >= FEWEST else ():
        sequences = [(name, leaf) for name, leaf in inputs_of(probe.batch, []) if leaf.ndim > 1 and len(leaf) == size]
        for name, sequence in sequences:
            lengths = _lengths(mask, sequence.shape[1]) if name != path else None
            if lengths is None or size is None:
                continue
            rows = lengths.argsort()[: size // 2]
            most = _moved_by_padding(probe, rows.tolist(), sequence.shape[1], int(lengths[rows].max()))
            if most > MATERIAL:
                rule = replace(UNUSED_INPUT, says=PADDED, advice=MASK)
                yield rule.found(where, path=indexed(path), most=most)
                return
            break


def judge_first_place(probe: Probe, base: list[LossCall], where: Where) -> Iterator[Finding]:
    """Yield that a recurrent layer looks ahead over a sequence of which the prediction reads the first place."""
    names, size = probe.names, probe.size
    parts = [part for part in probe.step.module.modules() if isinstance(part, nn.RNNBase) and not part.bidirectional]
    if not parts or not base:
        return
    later = {
        path: torch.cat([leaf[:, :1], leaf.roll(1, 0)[:, 1:]], 1)
        for path, leaf in inputs_of(probe.batch, base)
        if leaf.ndim > 1 and len(leaf) == size and leaf.shape[1] >= FEWEST
    }
    if not later:
        return
    other, calls = _heard(probe, parts, changed(probe.batch, later))
    if not all(torch.equal(one.prediction, two.prediction) for one, two in zip(base, calls, strict=False)):
        return
    said, _ = _heard(probe, parts, probe.batch)
    for one, two in zip(said, other, strict=False):
        (part, before), (_, after) = one, two
        is_moved = before.shape == after.shape and before.ndim == 3 and not torch.equal(before, after)
        places = before.shape[1 if part.batch_first else 0] if is_moved else 0
        if places >= FEWEST:
            rule = replace(UNUSED_INPUT, says=FIRST, advice=LAST)
            name = names.get(id(part), "")
            yield rule.found(where.at(name), module=name or type(part).__name__, places=places)
            return


def _heard(probe: Probe, parts: list[nn.RNNBase], batch: Any) -> tuple[list[tuple[nn.RNNBase, Tensor]], list[LossCall]]:
    """Return what recurrent layers say when the step runs on a batch, and its losses."""
    heard: list[tuple[nn.RNNBase, Tensor]] = []

    def hear(part: nn.Module, args: Any, output: Any) -> None:
        if isinstance(part, nn.RNNBase) and isinstance(output, tuple) and isinstance(output[0], Tensor):
            heard.append((part, output[0].detach().clone()))

    with Hearing(parts, hear):
        return heard, probe.calls(batch)


def _lengths(mask: Tensor, places: int) -> Tensor | None:
    """Return how many places ``(N,)`` of each sample are no padding at its end, ``None`` if that is not what it says.

    >>> _lengths(torch.tensor([[1.0, 1.0, 0.0], [1.0, 1.0, 1.0]]), 3), _lengths(torch.tensor([2, 3]), 3)
    (tensor([2, 3]), tensor([2, 3]))
    """
    if mask.is_complex() or not mask.numel():
        return None
    if mask.ndim == 1 and not mask.is_floating_point():
        lengths = mask.long()
        is_so = mask.dtype != torch.bool and int(lengths.max()) == places
    elif mask.ndim == 2 and mask.shape[1] == places:
        lengths = mask.long().sum(1)
        is_so = bool((mask == (torch.arange(places, device=mask.device)[None] < lengths[:, None])).all())
    else:
        return None
    return lengths if is_so and 0 < int(lengths.min()) < int(lengths.max()) else None


def _moved_by_padding(probe: Probe, rows: list[int], places: int, kept: int) -> float:
    """Return how far predictions of some samples move without their padding, in spreads; 0 if none can be compared."""
    if kept == places or probe.size is None:
        return 0.0
    whole = take(probe.batch, probe.size, rows)
    cut = {
        path: leaf[:, :kept]
        for path, leaf in leaves(whole)
        if isinstance(leaf, Tensor) and leaf.ndim > 1 and leaf.shape[:2] == (len(rows), places)
    }
    if batch_size(whole) != len(rows):
        return 0.0
    pairs = zip(probe.calls(whole), probe.calls(changed(whole, cut)), strict=False)
    moved = [
        float(distance(one.prediction, two.prediction).max())
        for one, two in pairs
        if one.prediction.shape == two.prediction.shape and one.prediction.ndim and len(one.prediction) == len(rows)
    ]
    return max(moved, default=0.0)
