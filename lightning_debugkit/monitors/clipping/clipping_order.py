"""Clipping at the wrong moment: before the backward pass whose gradients it was meant for, or of scaled gradients."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from lightning_debugkit.core.finding import Finding, Severity, Where
from lightning_debugkit.core.rule import Rule
from lightning_debugkit.monitors.clipping.clipped_step import ClippedStep

BEFORE_BACKWARD = Rule(
    "clipping-before-backward",
    Severity.WARNING,
    "gradients are clipped before the backward pass that computes them, in each of the last {steps} steps: "
    "the step itself uses them unclipped",
    "Clip between backward and optimizer.step(): set Trainer(gradient_clip_val=...) or override "
    "configure_gradient_clipping.",
    section="clipping",
)
SCALED = Rule(
    "clipping-scaled-gradients",
    Severity.ERROR,
    "gradients are clipped while they are still multiplied by the loss scale {scale:.0f}: their norm is {norm:.3g} "
    "before and {after:.2g} after, coefficient {coefficient:.2g}, so next to nothing is left to learn from",
    "Clip in on_before_optimizer_step, where the gradients are unscaled, or multiply the threshold by "
    "trainer.precision_plugin.scaler.get_scale().",
    section="clipping",
)

_TIMES = 3  # in a row, before a habit is told from an accident
_MEANT = 1e-2  # a threshold below this, once the scale is taken out, was not multiplied by the scale


def is_scaled(step: ClippedStep) -> bool:
    """Tell whether the clipping took gradients times the loss scale for gradients."""
    return step.scale > 1 and step.threshold is not None and step.threshold < _MEANT and step.is_clipped


@dataclass
class _Seen:
    early: int = 0  # clippings of this step before its backward
    late: int = 0
    habit: int = 0  # steps in a row with early ones only
    source: str = ""


class ClippingOrder:
    """Follow the order of backward, clipping and step."""

    def __init__(self) -> None:
        self._seen: defaultdict[int, _Seen] = defaultdict(_Seen)
        self._scaled: dict[int, int] = {}

    def has_source(self, optimizer: int) -> bool:
        """Tell whether it is known which line clips."""
        return bool(self._seen[optimizer].source)

    def clipped(self, optimizer: int, is_early: bool, source: str) -> None:
        """Take note of a clipping; ``is_early`` if no backward has run for the step to come."""
        seen = self._seen[optimizer]
        seen.early += is_early
        seen.late += not is_early
        seen.source = seen.source or source

    def stepped(self, optimizer: int) -> None:
        """Take note of the step itself."""
        seen = self._seen[optimizer]
        seen.habit = seen.habit + 1 if seen.early and not seen.late else 0
        seen.early = seen.late = 0

    def early(self, where: Where) -> Iterator[Finding]:
        """Yield what is wrong with the order of clipping and backward."""
        for seen in self._seen.values():
            if seen.habit >= _TIMES:
                yield BEFORE_BACKWARD.found(where, steps=seen.habit, source=seen.source)

    def scaled(self, steps: list[ClippedStep]) -> Iterator[Finding]:
        """Yield what is wrong with clippings of gradients that the loss scale was still in."""
        for step in steps:
            if step.scale <= 1:
                continue
            is_wrong = is_scaled(step)
            count = self._scaled[step.optimizer] = self._scaled.get(step.optimizer, 0) + 1 if is_wrong else 0
            if count == _TIMES:
                yield SCALED.found(
                    step.where,
                    scale=step.scale,
                    norm=step.norm,
                    after=step.after,
                    coefficient=step.coefficient,
                    threshold=(step.threshold or 0.0) * step.scale,
                    source=self._seen[step.optimizer].source,
                )
