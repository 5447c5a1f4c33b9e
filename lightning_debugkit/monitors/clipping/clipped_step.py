"""One optimizer step as clipping saw it: first on the device, then, when there is a batch of them, as numbers."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from lightning_debugkit.core.finding import Where
from lightning_debugkit.core.host_copy import Later, read

By = Literal["norm", "value", "module", "nothing"]
Number = float | Tensor | Later  # in host memory, on its device, or on its way with the next read

_NOWHERE = Where(0, 0)
_EPSILON = 1e-6  # torch adds it to the norm before it divides


@dataclass(frozen=True)
class ClippedStep:
    """What clipping did to one optimizer step."""

    where: Where
    optimizer: int  # position among the Trainer's optimizers
    norm: float  # norm of the gradients before clipping, the loss scale taken out
    after: float  # norm after clipping
    threshold: float | None  # what the clipping was told, `None` if nothing did or that is not known; scale taken out
    by: By  # what was cut to the threshold; `module` if the module clips by means of its own
    is_exact: bool  # the norm is the one that the clipping itself computed
    is_whole: bool = True  # the step uses a full accumulation window
    peak: float = math.nan  # largest entry after clipping, `nan` if it was not looked for
    scale: float = 1.0  # loss scale that was still in the gradients when they were clipped
    source: str = ""  # the user's line that clipped, where it matters
    # part of the squared norm that each layer holds; empty if it was not looked for
    shares: Mapping[str, float] = field(default_factory=dict)

    @property
    def coefficient(self) -> float:
        """What the gradients were multiplied by, 1 if nothing was cut."""
        return min(1.0, self.after / self.norm) if self.norm > 0 else 1.0

    @property
    def is_clipped(self) -> bool:
        """The step was cut by more than rounding."""
        return self.by != "nothing" and _is_cut(self.norm, self.after)


@dataclass(eq=False)
class PendingClippedStep:
    """A step whose numbers may still lie on the device."""

    optimizer: int  # as in `ClippedStep`, like all that follow but the tensors
    by: By  # what was cut
    norm: Number  # norm before, with the scale still in it
    threshold: float | None = None  # what the clipping was told, with the scale still in it
    scale: float = 1.0  # loss scale in norms and threshold
    source: str = ""  # the user's line
    after: Number | None = None  # norm after, `None` if it follows from the threshold
    peak: Number | None = None  # largest entry after
    # layer and norm of each parameter before clipping
    layers: tuple[Sequence[str], Tensor | Later | Sequence[float]] | None = None
    where: Where = _NOWHERE
    is_whole: bool = True
    is_taken: bool = False  # the optimizer made the step, with a gradient
    kind: str = ""  # type of numbers that the clipping's norm is of

    @property
    def is_read(self) -> bool:
        """Its numbers have reached the host."""
        layers = None if self.layers is None else self.layers[1]
        return not any(_is_away(number) for number in (*self.numbers, layers))

    @property
    def numbers(self) -> tuple[Number | None, Number | None, Number | None]:
        """Norm before, norm after, and largest entry."""
        return self.norm, self.after, self.peak


def _is_away(number: object) -> bool:
    return isinstance(number, Tensor) or (isinstance(number, Later) and not number.is_read)


def read_clipped_steps(
    drafts: Sequence[PendingClippedStep], overflowed: list[PendingClippedStep] | None = None
) -> list[ClippedStep]:
    """Return the steps with their numbers, by one copy to the host; those that are not finite are left out.

    Drafts whose norm is infinite are added to ``overflowed``.
    """
    if all(draft.by == "nothing" and type(draft.norm) is float for draft in drafts):
        return [step for step in map(_unclipped, drafts) if math.isfinite(step.norm)]
    away = [number for draft in drafts for number in draft.numbers if _is_away(number)]
    told = dict(zip(map(id, away), read([], [_tensor(number) for number in away]).tolist(), strict=True))
    vectors = [draft.layers[1] for draft in drafts if draft.layers is not None and isinstance(draft.layers[1], Tensor)]
    rest = iter(torch.cat(vectors).tolist() if vectors else [])
    steps = []
    for draft in drafts:
        norm, after, peak = (told.get(id(number), _known(number)) for number in draft.numbers)
        names, found = draft.layers or ((), ())
        if isinstance(found, Tensor):
            found = list(itertools.islice(rest, len(found)))
        shares = _shares(names, found.numbers if isinstance(found, Later) else found)
        norm, after, peak = (number / draft.scale for number in (norm, after, peak))
        threshold = None if draft.threshold is None else draft.threshold / draft.scale
        after = _after(norm, threshold) if math.isnan(after) else after
        if norm == math.inf and overflowed is not None:
            overflowed.append(draft)
        if math.isfinite(norm) and math.isfinite(after):
            is_idle = draft.by == "module" and not _is_cut(norm, after)
            is_ruler = threshold == math.inf  # some clip to infinity to be told the norm
            by: By = "nothing" if is_idle or is_ruler else draft.by
            limit = None if is_ruler else threshold
            known = (limit, by, draft.by == "norm", draft.is_whole, peak, draft.scale, draft.source, shares)
            steps.append(ClippedStep(draft.where, draft.optimizer, norm, after, *known))
    return steps


def _unclipped(draft: PendingClippedStep) -> ClippedStep:
    norm = draft.norm
    assert isinstance(norm, float)
    return ClippedStep(draft.where, draft.optimizer, norm, norm, None, "nothing", False, draft.is_whole)


def tightest(steps: Sequence[ClippedStep]) -> list[ClippedStep]:
    """Return one of each step: where a module clips part by part, the part that is cut most."""
    found: dict[tuple[int, int], ClippedStep] = {}
    for step in steps:
        key = step.optimizer, step.where.step
        if key not in found or step.coefficient < found[key].coefficient:
            found[key] = step
    return list(found.values())


def _tensor(number: object) -> Tensor:
    tensor = number.tensor if isinstance(number, Later) else number
    assert isinstance(tensor, Tensor)
    return tensor


def _known(number: Number | None) -> float:
    """Return a number of the host; of one that is away its place is taken by what was read."""
    if number is None or isinstance(number, Tensor):
        return math.nan
    return number.number if isinstance(number, Later) else number


def _is_cut(norm: float, after: float) -> bool:
    return after < norm * (1 - 1e-4)


def _after(norm: float, threshold: float | None) -> float:
    return norm if threshold is None else norm * min(1.0, threshold / (norm + _EPSILON))


def _shares(layers: Sequence[str], norms: Sequence[float]) -> dict[str, float]:
    total = sum(norm**2 for norm in norms)
    if not 0 < total < math.inf:
        return {}
    held: dict[str, float] = {}
    for layer, norm in zip(layers, norms, strict=True):
        held[layer] = held.get(layer, 0.0) + norm**2 / total
    return held
