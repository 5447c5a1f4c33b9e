"""Classes that are picked by their scores, followed until they are compared with the labels."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor

from lightning_debugkit.core.finding import Finding, Where
from lightning_debugkit.core.loss_functions import INDEX_LOSSES
from lightning_debugkit.core.shared_rules import METRIC_DISAGREES
from lightning_debugkit.core.tensor_notes import TensorNotes
from lightning_debugkit.core.tensor_numbers import storage
from lightning_debugkit.preflight.loss_calls import LossCall, Made
from lightning_debugkit.preflight.operations import DIFFERENCES, MOVES, PICKS, SUMS
from lightning_debugkit.preflight.origins import BOTH, Origin, Origins
from lightning_debugkit.replay.source_lines import SourceLine

LEAST = {"argmin", "min"}
OTHER = (
    "{what} at {place} and compared with the labels, though {loss} reads label k as score k: what is counted is not "
    "how often the model is right"
)
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

    def compare(self, picked: Tensor, labels: Tensor, origins: Origins) -> None:
        """Take note of a comparison of what was picked with the labels of the batch."""
        pick = self._of.get(picked)
        if pick is None or origins.of(labels) != Origin.BATCH:
            return
        if pick.made.dim == 0:
            self.across.append(pick.made)
        elif pick.what:
            self.misread.append((pick, storage(labels)))


def judge_misread(picks: Sequence[tuple[Pick, int]], calls: Sequence[LossCall], where: Where) -> Iterator[Finding]:
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
