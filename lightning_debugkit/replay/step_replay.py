"""Turn a Trainer's failing batch into a step that can be replayed outside of the strategy."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from lightning_debugkit.core.compat import (
    DummyLogger,
    LightningModule,
    LightningOptimizer,
    Trainer,
    both_packages,
    callbacks_of,
    datamodule_of,
    is_param_in_hook_signature,
)
from lightning_debugkit.core.held_state import cannot_undo
from lightning_debugkit.core.isolation import ALONE, attributes_kept
from lightning_debugkit.core.optimizers import alive
from lightning_debugkit.core.rng import RandomState
from lightning_debugkit.core.run import current_run
from lightning_debugkit.core.sharding import cannot_rerun
from lightning_debugkit.core.step_hooks import aside
from lightning_debugkit.replay.autograd_graph import Wiring, reached, wiring
from lightning_debugkit.replay.diagnosis import Backward, Diagnosis, ReplayStep, breaks_scaled, diagnose


class NotReplayable(RuntimeError):
    """The step cannot be run again; the message says why."""


@dataclass(frozen=True)
class Writes:
    """Buffers that a step has broken."""

    names: Sequence[str]
    put_back: Callable[[], None]  # gives all buffers what they held before the step


def replay_step(
    trainer: Trainer,
    module: LightningModule,
    batch: Any,
    batch_idx: int,
    random: RandomState,
    asked: Sequence[tuple[Sequence[str], int | None]] = (),
    raises: type[Exception] | None = None,
    writes: Writes | None = None,
) -> Diagnosis | None:
    """Run the step of ``batch`` once more under instruments and say where it breaks, or why it raises such an error.

    Returns ``None`` if the fault does not strike again.

    Args:
        random: Random state that the step began in.
        asked: The way to each loader's own batch in it, and how many samples that loader asked for.
        raises: Kind of error that the step raised.
        writes: What the step has broken where its loss and gradients are sound.

    Raises:
        NotReplayable: The step cannot be run again.
    """
    with muted(trainer, module):
        try:
            step = step_of(trainer, module, batch, batch_idx, random)
            alone = asked[0][1] if len(asked) == 1 else None
            step = replace(step, asked=alone, parts=tuple(asked) if len(asked) > 1 else ())
            step = step if writes is None else _writing(step, writes)
            return diagnose(step, raises=raises)
        except NotReplayable:
            raise
        except Exception as error:
            raise NotReplayable(f"{type(error).__name__}: {error}") from error


def step_of(trainer: Trainer, module: LightningModule, batch: Any, batch_idx: int, random: RandomState) -> ReplayStep:
    """Return the training step of ``batch`` as something that the replay can run; run it inside `muted`."""
    if reason := cannot_rerun(trainer):
        raise NotReplayable(reason)
    if is_param_in_hook_signature(module.training_step, "dataloader_iter", explicit=True):
        raise NotReplayable("training_step takes batches from an iterator, which cannot be wound back")
    arguments = (batch_idx,) if is_param_in_hook_signature(module.training_step, "batch_idx", min_args=2) else ()

    def run(part: Any, backward: Backward) -> None:
        # An instance attribute, as the replay's own backward changes with every run.
        module.__dict__["manual_backward"] = backward
        with (
            trainer.precision_plugin.train_step_context(),
            _attribute(Tensor, "backward", _of_tensors(module, backward)),
        ):
            output = module.training_step(part, *arguments)
        loss = output.get("loss") if isinstance(output, dict) else output
        if module.automatic_optimization and isinstance(loss, Tensor):
            backward(loss)

    return ReplayStep(module, batch, random, run)


def _writing(step: ReplayStep, writes: Writes) -> ReplayStep:
    """Return the step from the buffers it began with; what it writes to them counts as a loss of it."""

    def run(part: Any, backward: Backward) -> None:
        writes.put_back()
        step.run(part, backward)
        written = [step.module.get_buffer(name).detach() for name in writes.names]
        if not all(bool(torch.isfinite(buffer).all()) for buffer in written):
            backward(torch.stack([buffer.sum() for buffer in written]).sum())

    return replace(step, run=run)


def _of_tensors(module: LightningModule, backward: Backward) -> Callable[..., None]:
    """Return what stands for ``loss.backward()``: `backward` for the module's weights, torch's own for other leaves."""
    usual: Any = Tensor.backward
    own = {id(parameter) for parameter in module.parameters()}

    def stands_in(loss: Tensor, *args: Any, **kwargs: Any) -> None:
        # Those that the step makes and reads, as the input of an attack that follows its gradient.
        others = [leaf for key, leaf in reached(loss).items() if key not in own]
        if others and "inputs" not in kwargs:
            usual(loss, *args[:1], **{**kwargs, "retain_graph": True, "inputs": others})
        backward(loss, *args, **kwargs)

    return stands_in


def overflows(
    trainer: Trainer, module: LightningModule, batch: Any, batch_idx: int, random: RandomState, scale: float
) -> bool:
    """Tell whether the gradients of the step stop being finite once its loss is scaled."""
    with muted(trainer, module):
        try:
            return breaks_scaled(step_of(trainer, module, batch, batch_idx, random), scale)
        except Exception:  # then there is nothing to tell
            return False


@contextlib.contextmanager
def muted(trainer: Trainer, module: LightningModule) -> Iterator[None]:
    """Let a step run without logging, stepping or scheduling anything."""

    def nothing(*args: Any, **kwargs: Any) -> None:
        return None

    schedulers = [config.scheduler for config in trainer.lr_scheduler_configs]
    optimizers = _optimizers(trainer, module)
    with contextlib.ExitStack() as stack:
        stack.enter_context(ALONE)
        stack.enter_context(aside())
        for name in ("log", "log_dict", "manual_backward", "clip_gradients", "toggle_optimizer", "untoggle_optimizer"):
            stack.enter_context(_attribute(module, name, nothing))
        for optimizer in optimizers:
            stack.callback(_kept(optimizer))
        for owner in (*optimizers, *schedulers):
            stack.enter_context(_attribute(owner, "step", nothing))
        for kind in both_packages(LightningOptimizer):
            stack.enter_context(_attribute(kind, "step", nothing))
        loggers = trainer.loggers
        stack.callback(setattr, trainer, "loggers", loggers)
        stack.callback(_told(trainer))
        stack.enter_context(_attribute(trainer, "save_checkpoint", nothing))
        stack.enter_context(attributes_kept(datamodule_of(trainer)))
        trainer.loggers = [DummyLogger() for _ in loggers]
        run = current_run(trainer)
        if run is not None:
            # Other callbacks of the kit that listen to operations must not take this for training.
            stack.callback(setattr, run, "is_replaying", run.is_replaying)
            run.is_replaying = True
        yield


def _optimizers(trainer: Trainer, module: LightningModule) -> list[Optimizer]:
    """Return the Trainer's optimizers; under manual optimization all that there are, as a program may keep some."""
    return list(trainer.optimizers) if module.automatic_optimization else alive(Optimizer)


def _told(trainer: Trainer) -> Callable[[], None]:
    """Return what takes back what a step tells its Trainer: to stop, as many do at a loss, or to have no callbacks."""
    callbacks, is_asked = callbacks_of(trainer), trainer.should_stop
    held = list(callbacks)

    def take_back() -> None:
        callbacks[:] = held
        trainer.callbacks = callbacks  # type: ignore[attr-defined]  # set by a connector
        trainer.should_stop = is_asked

    return take_back


def _kept(optimizer: Optimizer) -> Callable[[], None]:
    """Return what puts back what an optimizer holds: steps of other names, as `first_step`, write there.

    So do steps of training that set the rate by hand.
    """
    held = dict(vars(optimizer))
    groups = [(group, dict(group)) for group in optimizer.param_groups]
    state = {key: dict(value) if isinstance(value, dict) else value for key, value in optimizer.state.items()}

    def put_back() -> None:
        vars(optimizer).clear()
        vars(optimizer).update(held)
        for group, settings in groups:
            group.clear()
            group.update(settings)
        optimizer.state.clear()
        optimizer.state.update(state)

    return put_back


@contextlib.contextmanager
def _attribute(owner: Any, name: str, value: Callable[..., Any]) -> Iterator[None]:
    """Shadow an attribute, and leave ``owner`` exactly as it was."""
    had = name in vars(owner)
    kept = vars(owner).get(name)
    _assign(owner, name, _in_this_thread(getattr(owner, name), value) if isinstance(owner, type) else value)
    try:
        yield
    finally:
        if had:
            _assign(owner, name, kept)
        elif isinstance(owner, type):
            delattr(owner, name)
        else:
            vars(owner).pop(name, None)


def _in_this_thread(usual: Callable[..., Any], value: Callable[..., Any]) -> Callable[..., Any]:
    """Return what stands in for a method of a class in this thread alone: another may train."""
    here = threading.get_ident()

    def stands_in(*args: Any, **kwargs: Any) -> Any:
        return (value if threading.get_ident() == here else usual)(*args, **kwargs)

    return stands_in


def _assign(owner: Any, name: str, value: Any) -> None:
    # Not setattr on an instance: a module would take a callable for a submodule, a scheduler may define slots.
    if isinstance(owner, type):
        setattr(owner, name, value)
    else:
        vars(owner)[name] = value


def audit(
    trainer: Trainer,
    module: LightningModule,
    batch: Any,
    batch_idx: int,
    random: RandomState | None,
    parameters: Sequence[Tensor],
    of: Container[int] | None = None,
) -> Wiring | None:
    """Run the step of ``batch`` once more and return its wiring, ``None`` where it cannot be run again.

    By default of all its backward passes; ``of`` are those to look at, counted from 1.
    """
    if random is None or cannot_undo(module):
        return None
    with muted(trainer, module):
        try:
            return wiring(step_of(trainer, module, batch, batch_idx, random), parameters, of)
        except Exception:  # a step with side effects, a batch that cannot be wound back: then there is nothing to tell
            return None
