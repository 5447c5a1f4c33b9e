"""Judge what reaches the loss: does it depend on the input at all?"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from torch import Tensor

from lightning_debugkit.core.finding import Finding, Severity, Where
from lightning_debugkit.core.name_lists import operation_name
from lightning_debugkit.core.rule import Rule

CONSTANT = Rule(
    "constant-output",
    Severity.WARNING,
    "the output of {name} ({op}) is the same for all samples of a batch, though they differ: observed {looks} "
    "times over {steps} steps, it varied by at most {spread:.2g} of its size",
    "Print the spread over the batch after each layer to see where it is lost: in a dead or saturated layer, a softmax "
    "over one entry, an input that is not used. If it was there at first, lower the learning rate.",
    section="activations",
    cost="sampled",
    can_follow=(
        "clipping-before-backward",
        "clipping-scaled-gradients",
        "constant-input",
        "dead-units",
        "eval-mode-in-training",
        "gradients-cleared",
        "input-not-normalized",
        "learning-rate-schedule",
        "output-range",
        "saturated-units",
        "softmax-over-one",
        "stale-gradients",
        "symmetric-init",
        "unused-input",
        "update-ratio-high",
        "zero-loss",
    ),
)

TOLERANCE = 1e-4  # of the output's own size, and of the spread of its targets
_ROUNDING = 1e-6
_LOOKS, STEPS, _ROWS = 5, 20, 16


@dataclass(frozen=True)
class Variation:
    """How far the outputs of one layer differed in one look."""

    layer: str  # dotted path of the layer
    name: str  # the module to name: the one behind which samples no longer differ, else the layer
    op: str
    last: float  # largest difference between samples where it meets the loss, relative to the size of the output
    rows: int

    @property
    def is_constant(self) -> bool:
        return self.last <= TOLERANCE


def relative(numbers: Tensor, wanted: float | None) -> float:
    """Return how far samples differ, relative to the smaller of the output's size and the spread of its targets.

    >>> import torch
    >>> half = torch.tensor([0.5, 100.0])
    >>> relative(half, None), relative(half, 2.0), relative(torch.zeros(2), None)
    (0.005, 0.25, 0.0)
    """
    spread, size = numbers.tolist()
    scale = min(size, wanted) if wanted else size
    return spread / scale if scale else 0.0


class Outputs:
    """The memory of all outputs, and what it says about them."""

    def __init__(self) -> None:
        self.seen: dict[str, deque[tuple[int, Variation]]] = {}

    def judge(self, where: Where, look: Iterable[Variation]) -> Iterator[Finding]:
        """Take up the outputs of one look; yield what they come to."""
        widest: dict[str, Variation] = {}  # of a layer that was called more than once
        for each in look:
            known = widest.get(each.layer)
            widest[each.layer] = each if known is None or each.last > known.last else known
        for layer, now in widest.items():
            seen = self.seen.setdefault(layer, deque(maxlen=500))
            seen.append((where.step, now))
            window = _window(seen)
            if window and all(each.is_constant for _, each in window) and not _grows(window):
                yield CONSTANT.found(
                    where.at(now.name),
                    name=now.name or "training_step",
                    layer=layer,
                    op=operation_name(now.op),
                    looks=len(window),
                    steps=where.step - window[0][0],
                    samples_seen=sum(each.rows for _, each in window),
                    spread=max(each.last for _, each in window),
                )


def is_cut(look: Iterable[Variation]) -> bool:
    """Tell whether all outputs of a look are the same for all samples."""
    found = [each.is_constant for each in look]
    return bool(found) and all(found)


def _window(seen: deque[tuple[int, Variation]]) -> list[tuple[int, Variation]]:
    """Return the fewest last looks that are enough to judge by, none if there are not enough yet."""
    rows = 0
    for count, (step, each) in enumerate(reversed(seen), start=1):
        rows += each.rows
        if count >= _LOOKS and seen[-1][0] - step >= STEPS and rows >= _ROWS:
            return list(seen)[-count:]
    return []


def _grows(window: list[tuple[int, Variation]]) -> bool:
    # A head that starts at zero differs more with every step; one that never will stays where it is.
    return window[-1][1].last > max(2 * window[0][1].last, _ROUNDING)
