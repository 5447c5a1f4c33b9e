"""Mixed precision that skips step after step."""

from __future__ import annotations

from lightning_debugkit.core.finding import Finding, Severity, Where
from lightning_debugkit.core.rule import BROKEN_NUMBERS, Rule

COLLAPSE = Rule(
    "loss-scale-collapse",
    Severity.ERROR,
    "{skipped} optimizer steps in a row were skipped and the loss scale fell to {scale:.3g}: nothing is learned",
    "The gradients overflow in 16 bits at any scale: use precision='bf16-mixed', or find the layer whose gradients "
    "overflow with precision='32-true'.",
    section="loss",
    can_follow=BROKEN_NUMBERS,
)

# Below one the scaler divides the loss: it no longer lifts small gradients, it hides infinite ones.
_COLLAPSED = 1.0


class LossScale:
    """Count the steps that a GradScaler skips; one or a few while it finds its scale are normal."""

    def __init__(self) -> None:
        self.skipped = 0

    def judge(self, where: Where, overflow: bool, scale: float) -> Finding | None:
        """Return the finding once the scale has collapsed.

        Args:
            overflow: The gradients of this step are not finite, so that it will be skipped.
        """
        self.skipped = self.skipped + 1 if overflow else 0
        if self.skipped >= 4 and scale < _COLLAPSED:
            return COLLAPSE.found(where, skipped=self.skipped, scale=scale)
        return None
