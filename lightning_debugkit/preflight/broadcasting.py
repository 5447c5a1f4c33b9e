"""A prediction and a target of other shapes: each entry of one meets all entries of the other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from lightning_debugkit.core.finding import Finding, Severity, Where
from lightning_debugkit.core.loss_functions import BINARY_LOSSES, DIFFERENCE_LOSSES
from lightning_debugkit.core.rule import Rule
from lightning_debugkit.preflight.loss_calls import LossCall, OuterCall, at
from lightning_debugkit.replay.source_lines import SourceLine

COMPARED = {"sub", "rsub", "subtract", "eq", "ne"} | DIFFERENCE_LOSSES | BINARY_LOSSES

SHAPE_BROADCAST = Rule(
    "shape-broadcast",
    Severity.WARNING,
    "{op} of {one} with {other} at {place} makes {many}: each prediction {meets} of all samples, and {consequence}",
    "Give both one shape, as by prediction.squeeze(-1) or target.unsqueeze(-1).",
    section="preflight",
    cost="once",
)


def judge(call: LossCall, where: Where) -> Iterator[Finding]:
    """Yield that the shapes of a loss's arguments broadcast to more entries than either has."""
    if call.function not in DIFFERENCE_LOSSES | BINARY_LOSSES:
        return
    one, other = tuple(call.prediction.shape), tuple(call.target.shape)
    if one == other:
        return
    try:
        many = torch.broadcast_shapes(one, other)
    except RuntimeError:  # torch says so itself
        return
    if many.numel() > max(call.prediction.numel(), call.target.numel()):
        yield _found(where, call.function, one, other, tuple(many), call.place)


def judge_outer(calls: Sequence[OuterCall], where: Where) -> Iterator[Finding]:
    """Yield the differences and comparisons of ``(N, 1)`` with ``(N,)`` that the step wrote by hand."""
    for call in {call.place.source: call for call in calls if call.place.source}.values():
        size = max(call.shapes[0])
        yield _found(where, call.op, *call.shapes, (size, size), call.place)


def _found(
    where: Where, op: str, one: tuple[int, ...], other: tuple[int, ...], many: tuple[int, ...], place: SourceLine
) -> Finding:
    consequence = "the best it can learn is their mean"
    if op not in COMPARED:
        consequence = "the sum over them tells no sample from another"
    elif op in ("eq", "ne"):
        consequence = "what is counted says nothing of the model"
    meets = "is compared with the targets" if op in COMPARED else "meets the targets or weights"
    return SHAPE_BROADCAST.found(
        where, op=op, one=one, other=other, many=many, meets=meets, consequence=consequence, place=at(place) or op,
        source=place.source,
    )  # fmt: skip
