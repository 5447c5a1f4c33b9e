"""A fit that takes no training step at all."""

from __future__ import annotations

from lightning_debugkit.core.compat import Trainer
from lightning_debugkit.core.finding import Finding, Severity, Where
from lightning_debugkit.core.rule import Rule

NO_STEP = Rule(
    "no-training-step",
    Severity.WARNING,
    "the fit took no training step: {why}",
    "{remedy}",
    section="optimization",
)


def no_step(where: Where, trainer: Trainer) -> Finding:
    """Return the finding for a fit that is over without a step; an info where that was asked for."""
    steps, epochs, limit = trainer.max_steps, trainer.max_epochs, trainer.limit_train_batches
    if limit == 0 or steps == 0 or epochs == 0:
        name = "limit_train_batches" if limit == 0 else "max_steps" if steps == 0 else "max_epochs"
        why, remedy = f"{name} is 0", f"Raise {name} to train."
        return NO_STEP.found(where, severity=Severity.INFO, why=why, remedy=remedy)
    if steps and 0 < steps <= trainer.global_step:
        return _reached(where, trainer, "steps", trainer.global_step, steps)
    if epochs and 0 < epochs <= trainer.current_epoch:
        return _reached(where, trainer, "epochs", trainer.current_epoch, epochs)
    return NO_STEP.found(
        where,
        why="the training data gave no batch",
        remedy="Look at the length of the data set, at drop_last with a batch larger than it, and at filters.",
    )


def _reached(where: Where, trainer: Trainer, what: str, made: int, limit: int) -> Finding:
    """Return the finding for a limit that was reached before: by the run of the checkpoint, or by this Trainer."""
    limits = f"{what} already, and max_{what} is {limit}"
    if trainer.ckpt_path is not None:
        why, remedy = f"the checkpoint has {made} {limits}", f"Raise max_{what}: it counts from the first run's begin."
    else:
        why = f"this Trainer has made {made} {limits}"
        remedy = f"Fit with a new Trainer, or raise max_{what}: a Trainer counts on from one fit to the next."
    return NO_STEP.found(where, why=why, remedy=remedy)
