"""Optimizers that are stepped past Lightning's class around them, which alone counts steps."""

from __future__ import annotations

from lightning_debugkit.core.callback import DebugCallback
from lightning_debugkit.core.compat import ModelCheckpoint, Trainer, callbacks_of
from lightning_debugkit.core.finding import Finding, Severity, Where
from lightning_debugkit.core.name_lists import listed
from lightning_debugkit.core.optimizer_steps import uncounted_steps
from lightning_debugkit.core.rule import Rule

NOT_COUNTED = Rule(
    "steps-not-counted",
    Severity.WARNING,
    "{steps} steps were taken by an optimizer that Lightning does not step itself, and its global_step still is "
    "{counted}: {effects}",
    "Step what self.optimizers() returns, without use_pl_optimizer=False; where the optimizer has steps of its own "
    "names, let configure_optimizers return the one inside that does the last of them. NestedCheckpoint counts them.",
    section="optimization",
)

_STEPS = 10  # before anything is said: a warm-up by hand may come first


class UncountedSteps:
    """Tell once that Lightning's count of steps does not grow, if anything in the Trainer depends on it."""

    def __init__(self) -> None:
        self._counted = 0
        self._before = 0
        self._is_over = False

    def begin(self, trainer: Trainer) -> None:
        """Take both counts where the fit begins."""
        self._counted, self._before, self._is_over = trainer.global_step, uncounted_steps(trainer), False

    def judge(self, where: Where, trainer: Trainer) -> Finding | None:
        """Return what stands still; asked behind each batch."""
        steps = uncounted_steps(trainer) - self._before
        if self._is_over or steps < _STEPS:
            return None
        self._is_over = True
        effects = _effects(trainer)
        if trainer.global_step != self._counted or not effects:
            return None
        return NOT_COUNTED.found(where, steps=steps, counted=self._counted, effects=listed(effects))


def _effects(trainer: Trainer) -> list[str]:
    """Return what does not happen while the count stands still."""
    stock = callbacks_of(trainer, ModelCheckpoint)
    savers = [each for each in stock if not isinstance(each, DebugCallback) and (each.save_top_k or each.save_last)]
    names = dict.fromkeys(type(each).__name__ for each in savers)
    effects = [f"{name} saves nothing while it stands still" for name in names]
    if trainer.max_steps > 0:
        effects.append(f"max_steps={trainer.max_steps} is never reached")
    return effects
