"""Operations along another dimension than the one that is meant: a view for a transpose, a norm, a broadcast."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch

from lightning_debugkit.core.finding import Finding, Severity, Where
from lightning_debugkit.core.loss_functions import BINARY_LOSSES, DIFFERENCE_LOSSES
from lightning_debugkit.core.rule import Rule
from lightning_debugkit.preflight.batch_leak import BATCH_LEAK
from lightning_debugkit.preflight.loss_calls import LossCall, NormCall, OuterCall, ViewCall
from lightning_debugkit.replay.source_lines import SourceLine
from lightning_debugkit.replay.step_raised import RAISED

VIEW_FOR_TRANSPOSE = Rule(
    "view-for-transpose",
    Severity.WARNING,
    "{op} at {place} reads the numbers of {given} as {shape}: that does not swap dimensions but cuts rows in the "
    "middle{samples}",
    "Use permute or transpose at that line, or movedim, to put a dimension elsewhere; view and reshape keep the order "
    "of all numbers.",
    section="preflight",
    cost="once",
)
_SAMPLES = ", and what is taken for a sample holds parts of several"
_SCALED = (
    "embeddings are scaled to unit length along the samples of the batch, and compared row by row at {place}: what is "
    "said of one sample depends on the others, and no similarity is a cosine"
)
_ALONG = "Normalise along the features: F.normalize(z, dim=1), or z / z.norm(dim=1, keepdim=True)."
_ALONE = (
    "the last of the {batches} batches of an epoch holds one sample: batch norm at {place} has no spread over it, and "
    "the step is going to raise"
)
_DROP = "Pass drop_last=True to the training DataLoader, or choose a batch size that leaves no rest of one."


COMPARED = {"sub", "rsub", "subtract", "eq", "ne"} | DIFFERENCE_LOSSES | BINARY_LOSSES

SHAPE_BROADCAST = Rule(
    "shape-broadcast",
    Severity.WARNING,
    "{op} of {one} with {other} at {place} makes {many}: each prediction {meets} of all samples, and {consequence}",
    "Give both one shape, as by prediction.squeeze(-1) or target.unsqueeze(-1).",
    section="preflight",
    cost="once",
)


def judge_views(calls: Sequence[ViewCall], samples: int | None, where: Where) -> Iterator[Finding]:
    """Yield each line that gives a tensor of the batch of so many samples another order of dimensions by a view."""
    for call in {call.place.source: call for call in calls if call.place.source}.values():
        is_in_both = samples in call.given and samples in call.shape
        is_moved = is_in_both and call.given.index(samples) != call.shape.index(samples)
        yield VIEW_FOR_TRANSPOSE.found(
            where.at(call.place.module or ""), op=call.op, given=call.given, shape=call.shape,
            place=call.place.short or call.op, samples=_SAMPLES if is_moved else "", source=call.place.source,
        )  # fmt: skip


def judge_scales(places: Sequence[SourceLine], where: Where) -> Iterator[Finding]:
    """Yield each line at which embeddings are compared that were normalised along the samples."""
    rule = replace(BATCH_LEAK, says=_SCALED, advice=_ALONG)
    for place in {place.source: place for place in places if place.source}.values():
        yield rule.found(where.at(place.module or ""), place=place.short, source=place.source)


def judge_norms(calls: Sequence[NormCall], where: Where, last: int, batches: int) -> Iterator[Finding]:
    """Yield a batch norm of one number a sample that is going to be given one sample, of which it raises.

    Args:
        last: Samples in the last batch of an epoch, 0 if that is not known.
    """
    for call in calls[:1] if last == 1 else ():
        told: dict[str, Any] = {"place": call.place.short or "batch_norm", "size": call.size, "batches": batches}
        rule = replace(RAISED, severity=Severity.WARNING, says=_ALONE, advice=_DROP)
        yield rule.found(where.at(call.place.module or ""), **told, source=call.place.source)


def judge_broadcast(call: LossCall, where: Where, learns: bool = True) -> Iterator[Finding]:
    """Yield that the shapes of a loss's arguments broadcast to more entries than either has.

    Args:
        learns: The step is one of training.
    """
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
        yield _found(where, call.function, one, other, tuple(many), call.place, learns)


def judge_outer(calls: Sequence[OuterCall], where: Where, learns: bool = True) -> Iterator[Finding]:
    """Yield the differences and comparisons of ``(N, 1)`` with ``(N,)`` that the step wrote by hand."""
    for call in {call.place.source: call for call in calls if call.place.source}.values():
        size = max(call.shapes[0])
        yield _found(where, call.op, *call.shapes, (size, size), call.place, learns)


def _found(
    where: Where,
    op: str,
    one: tuple[int, ...],
    other: tuple[int, ...],
    many: tuple[int, ...],
    place: SourceLine,
    learns: bool,
) -> Finding:
    consequence = "the best it can learn is their mean"
    if op not in COMPARED:
        consequence = "the sum over them tells no sample from another"
    elif op in ("eq", "ne"):
        consequence = "what is counted says nothing of the model"
    elif not learns:
        consequence = "what comes out says nothing of the model"
    meets = "is compared with the targets" if op in COMPARED else "meets the targets or weights"
    return SHAPE_BROADCAST.found(
        where, op=op, one=one, other=other, many=many, meets=meets, consequence=consequence, place=place.short or op,
        source=place.source,
    )  # fmt: skip
