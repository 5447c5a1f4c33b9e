"""Nothing is stepped: no optimizer, one while others are, or not a single training step in the whole fit."""

from __future__ import annotations

from collections.abc import Iterator, Set

from lightning_debugkit.core.compat import LightningModule, Trainer, callbacks_of
from lightning_debugkit.core.finding import Finding, Severity, Where
from lightning_debugkit.core.name_lists import listed
from lightning_debugkit.core.optimizers import held_by, raw
from lightning_debugkit.core.rule import Rule
from lightning_debugkit.core.sharding import holds_whole_model
from lightning_debugkit.monitors.optimization.update_ratio import NOT_UPDATED
from lightning_debugkit.monitors.parameters.parameter_registration import common
from lightning_debugkit.stats.tensor_norms import values, versions

NO_STEP = Rule(
    "no-training-step", Severity.WARNING, "the fit took no training step: {why}", "{remedy}", section="optimization"
)

_CALL = "Call optimizer.step() (with the closure, where optimizer_step is overridden) after backward."
_CALL_BY_HAND = (
    "Call optimizer.step() after backward; if a condition guards it, such as one of every so many batches, no batch of "
    "an epoch has met it."
)
_OTHERS = 10  # steps of other optimizers, after which one that was never stepped is no matter of the start


def never_stepped(where: Where, module: LightningModule, passes: int, before: tuple[int, ...]) -> Iterator[Finding]:
    """Yield that backward has run so many times and no optimizer stepped, if the weights are left alone, too.

    Args:
        passes: Backward passes since the last step.
        before: Versions of its parameters early among them.
    """
    if versions(list(module.parameters())) == before:
        remedy = _CALL if module.automatic_optimization else _CALL_BY_HAND
        yield not_updated(where, [], passes, ": no optimizer has stepped", remedy)


def waiting(trainer: Trainer, module: LightningModule, stepped: Set[int], steps: int) -> list[str]:
    """Return parameters that hold a gradient, and whose optimizer was not stepped while others made so many steps."""
    still = [optimizer for optimizer in trainer.optimizers if id(raw(optimizer)) not in stepped]
    # Where none was, a scaler has skipped all, or what steps is not torch's.
    if steps < _OTHERS or len(still) == len(trainer.optimizers) or not holds_whole_model(trainer):
        return []
    held = held_by(still)
    fed = {name: p for name, p in module.named_parameters() if id(p) in held and p.requires_grad}
    return [name for name, p in fed.items() if p.grad is not None and bool(values(p.grad).any())]


def not_updated(where: Where, names: list[str], steps: int, why: str, remedy: str = _CALL) -> Finding:
    """Return the finding for parameters, or without names for all, that no step has moved."""
    return NOT_UPDATED.found(
        where.at(common(names)) if names else where,
        names=listed(names) if names else "all parameters",
        weights="the weights",
        steps=steps,
        why=why,
        remedy=remedy,
        parameters=names,
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


def _averages(trainer: Trainer) -> bool:
    # Not in Lightning 2.5.0, so that it is known by name.
    return any(base.__name__ == "WeightAveraging" for each in callbacks_of(trainer) for base in type(each).__mro__)


def _reached(where: Where, trainer: Trainer, what: str, made: int, limit: int) -> Finding:
    """Return the finding for a limit that was reached before: by the run of the checkpoint, or by this Trainer."""
    limits = f"{what} already, and max_{what} is {limit}"
    if trainer.ckpt_path is not None:
        why, remedy = f"the checkpoint has {made} {limits}", f"Raise max_{what}: it counts from the first run's begin."
        if _averages(trainer):
            why += "; the weights are those of training, as their average is put in place when training ends"
            remedy += (
                " Test and export with the checkpoint (trainer.test(ckpt_path=...)), whose weights are the average."
            )
    else:
        why = f"this Trainer has made {made} {limits}"
        remedy = f"Fit with a new Trainer, or raise max_{what}: a Trainer counts on from one fit to the next."
    return NO_STEP.found(where, why=why, remedy=remedy)
