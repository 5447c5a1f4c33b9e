"""Watch what flows through the network on sampled steps: units that died or saturate, outputs that never differ."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from lightning_debugkit.core.arguments import Needs
from lightning_debugkit.core.callback import DebugCallback
from lightning_debugkit.core.dispatch_modes import cannot_enter, entered
from lightning_debugkit.core.isolation import ALONE
from lightning_debugkit.core.optimizers import rate_of
from lightning_debugkit.core.patching import around_next
from lightning_debugkit.core.run import current_run
from lightning_debugkit.core.sampling import SampledSteps, Thinning
from lightning_debugkit.monitors.activations.observed_activations import (
    ObservedActivations,
    cannot_look,
    read_activations,
)
from lightning_debugkit.monitors.activations.operation_mode import OperationMode
from lightning_debugkit.monitors.activations.output_rules import STEPS, Outputs, is_cut
from lightning_debugkit.monitors.activations.unit_rules import Units
from lightning_debugkit.stats.tensor_norms import unobserved

# Operations of a step for which it is looked at in every step of a young run: a look goes through Python for each, and
# in a deeper model looks lie as many times further apart. Of 500 small layers a look takes the time of six steps.
_CALLS = 100
_OF_LOOKS = ("on_before_backward", "on_train_batch_end")  # hooks that only a look has need of


class ActivationMonitor(DebugCallback):
    """Find units that died, units that saturate and outputs that do not depend on the input; draw scales by depth.

    On sampled steps the operations of the training step are watched, whatever calls them; nothing is installed on the
    model, and the training is never changed. Looks are frequent in the first steps and rare later.

    Args:
        every_n_steps: Optimizer steps between two looks, once the run is old; a look costs about one more step.
    """

    def __init__(self, every_n_steps: int = 100) -> None:
        Needs("ActivationMonitor").whole("every_n_steps", every_n_steps, 1, "100 costs next to nothing")
        self.every_n_steps = every_n_steps
        self._reset()

    def _reset(self) -> None:
        self._looks = SampledSteps(self.every_n_steps)
        self._units = Units()
        self._outputs = Outputs()
        self._drawn = Thinning(points=200)
        self._watch: OperationMode | None = None
        self._undo: Callable[[], None] = nothing
        self._unseen: dict[str, str] = {}

    def __getstate__(self) -> dict[str, Any]:
        # A look in progress stays with its fit.
        return {**self.__dict__, "_watch": None, "_undo": nothing}

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        super().setup(trainer, pl_module, stage)
        if stage == "fit" and not self.idle:
            self._release()
            self._reset()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if 0 < trainer.estimated_stepping_batches - trainer.global_step <= STEPS:
            self._looks.spread(self.every_n_steps)  # too short a fit for any rule: what is drawn needs no more
        self.rest(*_OF_LOOKS)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if self._watch is not None:
            self._release()
        if not self._looks.takes(self.in_batch(trainer, current_run(trainer)).step):
            return
        if (reason := cannot_look(pl_module)) is not None:
            self._tell_unseen(trainer, {"everything": reason})
            return
        self._watch = OperationMode(pl_module)
        self.wake(*_OF_LOOKS)
        with unobserved():
            self._watch.gathered.saw_batch(batch)
        self._undo = around_next(trainer.strategy, "training_step", partial(_listening, self._watch))

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: Tensor) -> None:
        if self._watch is not None:
            with unobserved():
                self._watch.gathered.reaches(loss)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        watch = self._watch
        if watch is None:
            return
        self.rest(*_OF_LOOKS)
        self._release()
        if watch.error is not None:
            raise watch.error
        if watch.left_out:
            self._tell_unseen(trainer, {"everything": watch.left_out})
            return
        self._looks.spread(watch.calls // _CALLS)
        with unobserved():
            look = read_activations(watch.gathered, pl_module)
        self._judge(trainer, look)

    def _judge(self, trainer: Trainer, look: ObservedActivations) -> None:
        where = replace(self.where(trainer), step=self._looks.last)
        self._tell_unseen(trainer, look.unseen)
        if self._drawn.keeps(where.step):
            for name, values in look.measures().items():
                if values:
                    self.write(trainer, "measure", step=where.step, name=name, value=values)
        is_fresh, cut = self._looks.first == 0, is_cut(look.outputs)
        found = [finding for seen in look.seen for finding in self._units.judge(where, seen, is_fresh, cut)]
        if any(rate_of(group) for optimizer in trainer.optimizers for group in optimizer.param_groups):
            found += self._outputs.judge(where, look.outputs)
        for finding in found:
            self.emit(trainer, finding)

    def _tell_unseen(self, trainer: Trainer, unseen: dict[str, str]) -> None:
        news = {name: reason for name, reason in unseen.items() if self._unseen.get(name) != reason}
        if news:
            self._unseen.update(news)
            self.write(trainer, "measure", name="activations-unseen", value=dict(self._unseen))

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._release()

    def _release(self) -> None:
        """Leave the strategy as it was, and let go of the step's tensors; may be called twice."""
        self._undo()
        self._undo = nothing
        if self._watch is not None:
            self._watch.gathered.close()
            self._watch = None


def nothing() -> None:
    """Undo nothing."""


@contextlib.contextmanager
def _listening(watch: OperationMode) -> Iterator[None]:
    """Enter ``watch``, but where the step might not survive it."""
    with contextlib.ExitStack() as stack:
        try:
            watch.left_out = cannot_enter()  # asked here: what the step stands in is the user's
            if not watch.left_out and not ALONE.acquire(blocking=False):
                watch.left_out = "another thread is in a mode of torch, and torch counts them for all threads together"
            elif not watch.left_out:
                stack.callback(ALONE.release)
                stack.enter_context(entered(watch))
        except Exception as error:  # the step goes on without us
            watch.error = error
        yield
