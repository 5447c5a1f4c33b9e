"""What a Trainer says of the fit in progress, asked once an epoch: each of its properties asks a chain of others."""

from __future__ import annotations

from operator import attrgetter

from lightning_debugkit.core.compat import LightningModule, Trainer, overrides, progress_of, skips_backward
from lightning_debugkit.core.finding import Where
from lightning_debugkit.core.optimizer_steps import uncounted_steps
from lightning_debugkit.core.optimizers import scaler_of
from lightning_debugkit.core.sharding import holds_whole_model, is_sharded

_groups = attrgetter("param_groups")


class FitFacts:
    """What is the same for all batches of an epoch.

    Args:
        trainer: Of the fit.
        module: Of the fit.
    """

    __slots__ = (
        *("_counted", "clips", "epoch", "has_modes", "holds_whole_model", "is_automatic", "is_sharded", "optimizers"),
        *("rank", "ranks", "scaler", "trains", "window"),
    )

    def __init__(self, trainer: Trainer, module: LightningModule) -> None:
        self.is_automatic = module.automatic_optimization
        self.window = trainer.accumulate_grad_batches if self.is_automatic else 1
        self.optimizers = trainer.optimizers
        # A model that is fitted without gradients, as by counting, has no optimizer.
        self.trains = any(map(_groups, self.optimizers)) and not skips_backward(trainer)
        self.has_modes = any(callable(getattr(each, "eval", None)) for each in self.optimizers)  # schedule-free ones
        self.clips = overrides(module, "configure_gradient_clipping")  # by means of its own
        self.ranks = trainer.world_size
        self.scaler = scaler_of(trainer)
        self.is_sharded = is_sharded(trainer)
        self.holds_whole_model = holds_whole_model(trainer)
        self.epoch = trainer.current_epoch
        self.rank = trainer.global_rank
        progress = progress_of(trainer)
        # What Lightning's `global_step` reads.
        self._counted = progress["automatic"].optimizer.step.total if self.is_automatic else progress["manual"].total

    def where(self, trainer: Trainer) -> Where:
        """Return the place of now."""
        return Where(self.epoch, self._counted.completed + uncounted_steps(trainer), self.rank)
