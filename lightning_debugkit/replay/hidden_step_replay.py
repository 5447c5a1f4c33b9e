"""Run batches again that no loss tells of: training steps that gave none, and those of validation and test."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from lightning_debugkit.core.compat import LightningModule, Trainer, evaluation_arguments, is_param_in_hook_signature
from lightning_debugkit.core.held_state import cannot_undo
from lightning_debugkit.core.isolation import isolated
from lightning_debugkit.core.rng import RandomState
from lightning_debugkit.core.sharding import cannot_rerun
from lightning_debugkit.data.loaders import is_at_once, loaders_given
from lightning_debugkit.data.sample_order import ways_to
from lightning_debugkit.replay.diagnosis import Diagnosis, described, diagnose
from lightning_debugkit.replay.passes import Backward, Pass, ReplayStep, outside
from lightning_debugkit.replay.step_replay import muted, step_of
from lightning_debugkit.replay.trace import Trace, first_born


def why_no_loss(
    trainer: Trainer, module: LightningModule, batch: Any, batch_idx: int, random: RandomState | None
) -> Diagnosis | None:
    """Return what is not finite in a training step that gave no loss; ``None`` if nothing is, or it cannot be run."""
    if random is None or cannot_undo(module):
        return None
    losses: list[Tensor] = []

    def run(part: Any, backward: Backward) -> None:
        losses.clear()
        step.run(part, lambda loss, *args, **kwargs: losses.append(loss))

    with muted(trainer, module):
        try:
            step = step_of(trainer, module, batch, batch_idx, random)
            return hidden(replace(step, run=run), lambda: not losses)
        except Exception:  # then there is nothing to tell
            return None


def replay_evaluation(
    trainer: Trainer,
    module: LightningModule,
    hook: str,
    batch: Any,
    place: Sequence[int],
    random: RandomState | None,
    bad: Callable[[Any, Mapping[str, Any]], Tensor | None],
    raises: type[Exception] | None = None,
) -> tuple[Diagnosis | None, str]:
    """Run a step of validation or test once more and say where its numbers break.

    Args:
        module: The user's module, in the mode and with the weights of the evaluation.
        random: Random state in which the step started.
        bad: Returns what is not finite of what a run returned and logged, ``None`` if all is.
        raises: Kind of error that the step raised.

    Returns what was found, ``None`` if nothing, and then why.
    """
    step = getattr(module, hook)
    if reason := cannot_rerun(trainer) or ("" if raises else cannot_undo(module)):
        return None, f"the batch could not be run again: {reason}"
    if random is None or is_param_in_hook_signature(step, "dataloader_iter", explicit=True):
        return None, "the batch cannot be wound back"
    arguments = evaluation_arguments(trainer, hook, place)

    def run(part: Any, backward: Backward) -> None:
        logged: dict[str, Any] = {}
        module.__dict__["log"] = lambda name, value, *args, **kwargs: logged.__setitem__(name, value)
        module.__dict__["log_dict"] = lambda values, *args, **kwargs: logged.update(values)
        plugin = trainer.precision_plugin
        with torch.no_grad(), plugin.val_step_context() if "val" in hook else plugin.test_step_context():
            output = step(part, *arguments)
        if (broken := bad(output, logged)) is not None:
            backward(broken)

    loaders = ways_to(loaders_given(trainer, "test" in hook)) if is_at_once(trainer) else []
    parts = tuple((way, None) for way, _ in loaders if way)
    with muted(trainer, module):
        try:
            found = diagnose(ReplayStep(module, batch, random, run, parts=parts), raises=raises)
        except Exception as error:
            return None, f"the batch could not be run again: {type(error).__name__}: {error}"
    return found, "" if found else "the replay of the batch did not show it again"


def hidden(step: ReplayStep, is_bad: Callable[[], bool]) -> Diagnosis | None:
    """Return where the first number that is not finite was born in a step, ``None`` if it is sound.

    Args:
        is_bad: Tells whether the last run of the step showed the fault, such as by giving no loss.

    Raises:
        Exception: Whatever the step raises when it is run once more.
    """
    names = {id(part): name for name, part in step.module.named_modules(remove_duplicate=False)}
    with isolated(step.module):
        trace = Trace(names, outside(step))
        traced = Pass(step, trace, gradients=False)
        if traced.run(step.batch) or not is_bad():
            return None
        if (first := first_born(trace.unmeant)) is None:
            return None

        def run(part: Any, backward: Backward) -> None:
            step.run(part, backward)
            if is_bad():
                backward(torch.tensor(math.nan))

        return described(traced, first, replace(step, run=run))
