"""What metrics are given: classes that are picked by scores and compared with labels, predictions and targets."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import FrameType
from typing import Any

from torch import Tensor

from lightning_debugkit.core.finding import Finding, Where
from lightning_debugkit.core.loss_functions import INDEX_LOSSES
from lightning_debugkit.core.shared_rules import METRIC_DISAGREES
from lightning_debugkit.core.tensor_notes import TensorNotes
from lightning_debugkit.core.tensor_numbers import storage
from lightning_debugkit.preflight.loss_calls import LossCall, Made
from lightning_debugkit.preflight.operations import COMPARING, DIFFERENCES, MOVES, PICKS, SUMS
from lightning_debugkit.preflight.origins import BOTH, Origin, Origins
from lightning_debugkit.replay.source_lines import SourceLine

LEAST = {"argmin", "min"}
# Files of torchmetrics whose metrics are other numbers where predictions and targets change places.
ONE_WAY = {"r2", "mape", "wmape", "explained_variance", "rse", "precision_recall", "specificity"}
OTHER = (
    "{what} at {place} and compared with the labels, though {loss} reads label k as score k: what is counted is not "
    "how often the model is right"
)
TURNED = (
    "the metric at {place} is given the targets of the batch as its predictions, and what the network says as its "
    "target: what comes out is another number"
)
IN_ORDER = "Give it the predictions first, metric(preds, target), or name both."
SAME = "Compare scores.argmax(dim=1) with the labels as they are."


@dataclass(frozen=True)
class Pick:
    """Classes that were picked for samples, or samples for classes."""

    made: Made
    scores: int  # where the scores lie in memory
    what: str  # what was done to them that the loss does not do, empty if nothing was


@dataclass
class Picks:
    """What one step picks; nothing is kept alive."""

    # operations that pick a sample for each class, and are compared with the labels
    across: list[Made] = field(default_factory=list)
    # picks that were made or changed so that the loss reads other classes, and the memory of the labels
    misread: list[tuple[Pick, int]] = field(default_factory=list)
    turned: list[SourceLine] = field(default_factory=list)  # metrics that are given labels as their predictions
    _of: TensorNotes[Pick] = field(default_factory=TensorNotes)

    def follow(
        self,
        name: str,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        result: Any,
        origins: Origins,
        made: Callable[[Any], Made | None],
        place: Callable[[], SourceLine],
    ) -> None:
        """Take note of a result: one that is picked, and what is made of it; of pairs in the batch it may be meant."""
        source = args[0] if args else None
        if not isinstance(source, Tensor):
            return
        if name in PICKS and source.ndim == 2 and source.shape[0] == origins.samples and origins.of(source) == BOTH:
            dim, head = kwargs.get("dim", args[1] if len(args) > 1 else None), made(source)
            is_pairs = source.shape[0] == source.shape[1] and (head is None or head.op != "linear")
            if isinstance(dim, int) and source.shape[1] > 1 and not is_pairs:
                places = result if isinstance(result, Tensor) else result[1]
                what = "the class of the lowest score is picked" if name in LEAST else ""
                step = Made(name, place(), dim % 2, source.shape[dim])
                self._of[places] = Pick(step, storage(source), what)
        pick = self._of.get(source)
        if pick is None:
            return
        if isinstance(result, tuple | list):
            for part in result:  # entry by entry, as a loop takes them
                if isinstance(part, Tensor):
                    self._of[part] = pick
        elif isinstance(result, Tensor) and name in MOVES:
            self._of[result] = pick
        elif isinstance(result, Tensor) and name in DIFFERENCES | SUMS and _is_number(args[1:]):
            step = replace(pick.made, place=place())
            self._of[result] = replace(pick, made=step, what="the number of the picked class is changed")

    def meet(self, name: str, one: Tensor, other: Tensor, origins: Origins, place: Callable[[], SourceLine]) -> None:
        """Take note of two tensors that are compared or subtracted."""
        if name in COMPARING:
            self._compare(one, other, origins)
            self._compare(other, one, origins)
        if is_turned(sys._getframe(1), origins):
            self.turned.append(place())

    def _compare(self, picked: Tensor, labels: Tensor, origins: Origins) -> None:
        """Take note of a comparison of what was picked with the labels of the batch."""
        pick = self._of.get(picked)
        if pick is None or origins.of(labels) != Origin.BATCH:
            return
        if pick.made.dim == 0:
            self.across.append(pick.made)
        elif pick.what:
            self.misread.append((pick, storage(labels)))


def is_turned(frame: FrameType | None, origins: Origins) -> bool:
    """Tell whether a metric of torchmetrics runs here whose predictions are the batch's own and its target is not."""
    while frame is not None and (frame.f_code.co_filename == __file__ or not _is_of_metrics(frame)):
        frame = frame.f_back
    while frame is not None and _is_of_metrics(frame):
        here = frame.f_locals
        said, wanted, files = here.get("preds"), here.get("target"), (type(here.get("self")).__module__, _home(frame))
        is_one_way = any(file.rpartition(".")[2] in ONE_WAY for file in files)
        if is_one_way and isinstance(said, Tensor) and isinstance(wanted, Tensor):
            return origins.of(said) == Origin.BATCH and origins.of(wanted) == BOTH
        frame = frame.f_back
    return False


def _home(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", ""))


def _is_of_metrics(frame: FrameType) -> bool:
    return _home(frame).startswith("torchmetrics.")


def judge_metrics(picks: Picks, calls: Sequence[LossCall], where: Where) -> Iterator[Finding]:
    """Yield each metric that is given labels for predictions, or whose classes the loss reads otherwise."""
    for place in {place.source: place for place in picks.turned if place.source}.values():
        rule = replace(METRIC_DISAGREES, says=TURNED, advice=IN_ORDER)
        yield rule.found(where.at(place.module or ""), place=place.short, source=place.source)
    yield from _misread(picks.misread, calls, where)


def _misread(picks: Sequence[tuple[Pick, int]], calls: Sequence[LossCall], where: Where) -> Iterator[Finding]:
    """Yield each line whose classes are other ones than those that the loss of the same scores and labels reads."""
    rule = replace(METRIC_DISAGREES, says=OTHER, advice=SAME)
    told: dict[str, tuple[Pick, LossCall]] = {}
    for pick, labels in picks:
        for call in calls:
            is_own = storage(call.prediction) == pick.scores and storage(call.target) == labels
            if call.function in INDEX_LOSSES and is_own:
                told.setdefault(pick.made.place.source, (pick, call))
    for source, (pick, call) in told.items():
        place = pick.made.place
        yield rule.found(
            where.at(place.module or ""), what=pick.what, place=place.short, loss=call.function, source=source
        )


def _is_number(others: Sequence[Any]) -> bool:
    other = others[0] if len(others) == 1 else None
    return isinstance(other, int | float) and not isinstance(other, bool) and other != 0
