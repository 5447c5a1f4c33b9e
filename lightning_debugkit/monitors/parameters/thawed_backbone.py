"""Callbacks of Lightning's that freeze a part and thaw it later, and a resume behind that epoch."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from lightning_debugkit.core.compat import (
    BackboneFinetuning,
    BaseFinetuning,
    LightningModule,
    Trainer,
    _BatchNorm,
    callbacks_of,
)
from lightning_debugkit.core.finding import Finding, Severity, Where
from lightning_debugkit.core.rule import Rule

FROZEN_AGAIN = Rule(
    "frozen-after-resume",
    Severity.WARNING,
    "{kind} thaws the backbone at epoch {thawed}, but the run that resumed in epoch {epoch} has it frozen again: its "
    "{count} parameters do not train",
    "Keep ExactResume among the callbacks, or call {kind}.make_trainable(self.backbone) in on_train_start.",
    section="parameters",
    cost="once",
)


def finetuning(trainer: Trainer) -> str:
    """Return the class of the callback that thaws the model by stages, empty if there is none."""
    return next((type(callback).__name__ for callback in callbacks_of(trainer, BaseFinetuning)), "")


def frozen_again(where: Where, trainer: Trainer, module: LightningModule) -> Iterator[Finding]:
    """Yield the backbone that is frozen where the epoch in which it was thawed is over; called before the first batch.

    Lightning's `BackboneFinetuning` freezes it whenever a run is set up, and thaws it in that one epoch alone.
    """
    for callback in callbacks_of(trainer, BackboneFinetuning):
        thawed, backbone = callback.unfreeze_backbone_at_epoch, getattr(module, "backbone", None)
        parts = backbone.modules() if isinstance(backbone, nn.Module) else ()
        # Batch norm trains throughout, unless `train_bn=False`.
        parameters = [p for part in parts if not isinstance(part, _BatchNorm) for p in part.parameters(recurse=False)]
        if where.epoch > thawed and parameters and not any(p.requires_grad for p in parameters):
            place, kind = where.at("backbone"), type(callback).__name__
            yield FROZEN_AGAIN.found(place, kind=kind, thawed=thawed, epoch=where.epoch, count=len(parameters))
