"""Whether what is predicted for one sample depends on the others of its batch, and by which operation they have met."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lightning_debugkit.core.finding import Finding, Severity, Where
from lightning_debugkit.core.loss_functions import CHECKED_LOSSES
from lightning_debugkit.core.rule import Rule
from lightning_debugkit.preflight.loss_calls import LossCall
from lightning_debugkit.preflight.operation_traces import PairTrace, RowTrace, first_mixing
from lightning_debugkit.preflight.probe import Probe, distance, inputs_of, is_by_sample

# In units of the prediction's spread: by how much one of the others must move, where few of them do.
MATERIAL = 1e-2
# Where more than half of them move, as by a mean or a softmax over a large batch, rounding alone is the measure: by how
# much they move when the same samples stand in another order, a hundred times, and the float32 rounding of a network.
ROUNDING = 1e-4
BEYOND = 100

BATCH_LEAK = Rule(
    "batch-leak",
    Severity.WARNING,
    "the prediction for one sample depends on the other samples of its batch, in eval mode, too: with {changed}, "
    "{count} of {others} other predictions moved, by up to {most:.2g} of their spread{first}",
    "{remedy}",
    section="preflight",
    cost="once",
    can_follow=("softmax-over-one", "view-for-transpose"),
)


def judge_leak(probe: Probe, base: list[LossCall], size: int, where: Where) -> Iterator[Finding]:
    """Yield that predictions move with sample 0, or with the first half of the batch.

    One sample among many weighs little in a mean or a softmax over all of them: half of them weigh more.

    Without a loss of torch's that is given predictions, they are what ``forward`` of the module returns.
    """
    before, half = _Predictions(probe, size, base), size // 2
    for count, changed in ((1, "another sample 0"), (half, f"other samples in the first {half} places")):
        order = [*range(count, 2 * count), *range(count, size)]
        if count == 1 or not probe.draws:
            for place, (one, other) in enumerate(zip(before.rows, before.again(order), strict=False)):
                if one is None or other is None or one.shape != other.shape:
                    continue
                apart = distance(one, other)[count:]
                if many := _moved(before, place, apart, is_one=count == 1):
                    seen = {"changed": changed, "count": many, "others": len(apart), "most": float(apart.max())}
                    yield _found(probe, order, count, size, where, seen)
                    return


def _moved(before: _Predictions, place: int, apart: Tensor, is_one: bool) -> int:
    """Return how many of the others have moved, 0 where that may be rounding or meant."""
    many = int((apart > MATERIAL).sum())
    # Where the step draws, it may pair samples on purpose, as mixup does; experts with room for so many samples send
    # some elsewhere where others come: that moves a few.
    few = 0 if is_one and not before.draws else 0.5 * len(apart)
    return many if many > few else _beyond_rounding(before, place, apart)


class _Predictions:
    """The predictions of a step ``(N, ...)``, in the order in which it makes them."""

    def __init__(self, probe: Probe, size: int, base: list[LossCall]) -> None:
        self._probe = probe
        self.rows: Sequence[Tensor | None] = [_rows(call, probe.batch, size) for call in base]
        self._is_said = not base
        if self._is_said:
            pairs = PairTrace(size)
            said, again = (probe.said(probe.batch, pairs) for _ in range(2))
            is_known = len(said) == len(again) and all(map(torch.equal, said, again))
            # What compares samples with each other, as contrastive losses do, may also prepare that in forward.
            self.rows = said if is_known and not pairs.is_found else []

    @property
    def draws(self) -> bool:
        return self._probe.draws

    def again(self, order: list[int]) -> Sequence[Tensor | None]:
        """Return the predictions for other samples in the places of the batch's own."""
        batch = self._probe.reordered(order)
        if self._is_said:
            return self._probe.said(batch) if self.rows else []
        calls = zip(self.rows, self._probe.calls(batch), strict=False)
        return [None if rows is None else _shaped(call.prediction, rows) for rows, call in calls]


def _beyond_rounding(before: _Predictions, place: int, apart: Tensor) -> int:
    """Return how many of the others have moved by more than rounding, 0 if not more than half of them have."""
    one = before.rows[place]
    if one is None or before.draws or int((apart > ROUNDING).sum()) <= 0.5 * len(apart):
        return 0
    turned = before.again([*reversed(range(len(one)))])
    other = turned[place] if place < len(turned) else None
    if other is None or other.shape != one.shape:
        return 0
    many = int((apart > max(ROUNDING, BEYOND * float(distance(one, other.flip(0)).max()))).sum())
    return many if many > 0.5 * len(apart) else 0


def _found(probe: Probe, order: list[int], count: int, size: int, where: Where, seen: dict[str, Any]) -> Finding:
    """Return the finding with the operation that mixes, as far as two more runs can tell it."""
    one, other = (RowTrace(probe.names, size) for _ in range(2))
    probe.run(probe.batch, one)
    probe.run(probe.reordered(order), other)
    found = first_mixing(one, other, count)
    if found is None or not found[1].source:
        remedy = "Look for an operation over dimension 0: softmax, mean, norm or a reshape that mixes samples."
        return BATCH_LEAK.found(where, first="", remedy=remedy, **seen)
    op, place = found
    first = f"; by {op} at {place.short} they have met"
    layer = dict(probe.step.module.named_modules()).get(place.module or "")
    if isinstance(layer, nn.RNNBase | nn.MultiheadAttention) and not layer.batch_first:
        remedy = (
            f"{type(layer).__name__} takes (time, batch, features) and is given samples for time: make it with "
            f"batch_first=True, or transpose what it is given at {place.short}."
        )
    else:
        remedy = f"Look at {place.short}, and at what it is given, for an operation over the batch: dimension 0."
    return BATCH_LEAK.found(
        where.at(place.module or ""), first=first, remedy=remedy, op=op, source=place.source, **seen
    )


def _rows(call: LossCall, batch: Any, size: int) -> Tensor | None:
    """Return the prediction with a row a sample, ``None`` if it has none.

    That of tokens may lie flat; in which order is read off the targets: they are those of the batch, sample by sample.
    """
    if is_by_sample(call, size):
        return call.prediction
    targets, prediction = call.target.reshape(-1), call.prediction
    is_flat = call.target.ndim == 1 and prediction.ndim > 0 and len(prediction) == len(targets) > size
    for _, leaf in inputs_of(batch, []) if is_flat and call.function in CHECKED_LOSSES else ():
        if leaf.ndim > 1 and leaf.shape[0] == size and leaf.numel() == len(targets) and leaf.dtype == targets.dtype:
            by_sample, by_place = leaf.reshape(-1), leaf.transpose(0, 1).reshape(-1)
            if torch.equal(by_sample, targets) and not torch.equal(by_sample, by_place):
                return prediction.reshape(size, -1)
    return None


def _shaped(prediction: Tensor, rows: Tensor) -> Tensor | None:
    return prediction.reshape(rows.shape) if prediction.numel() == rows.numel() else None
