"""Look at the program itself in its first steps: what its losses are given, and what its predictions depend on."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from lightning_debugkit.core.arguments import Needs
from lightning_debugkit.core.callback import DebugCallback
from lightning_debugkit.core.compat import overrides
from lightning_debugkit.core.finding import Finding
from lightning_debugkit.core.optimizer_steps import steps_taken
from lightning_debugkit.core.optimizers import scaler_of, trains_all
from lightning_debugkit.core.patching import around_next, has_compiled_code
from lightning_debugkit.core.rng import RandomState
from lightning_debugkit.core.run import batch_size_of
from lightning_debugkit.core.sharding import cannot_rerun
from lightning_debugkit.data.batches import leaves
from lightning_debugkit.data.loaders import last_batch
from lightning_debugkit.preflight import (
    box_corners,
    evaluation_noise,
    initialization,
    loss_value,
    output_activation,
    padding_targets,
    targets,
    wrong_dimensions,
)
from lightning_debugkit.preflight.attainable import at_start
from lightning_debugkit.preflight.class_picks import judge_metrics
from lightning_debugkit.preflight.dependence import Checks
from lightning_debugkit.preflight.dropped_input import Dropped, judge_dropped
from lightning_debugkit.preflight.listener import StepListener
from lightning_debugkit.preflight.loss_calls import LossCall
from lightning_debugkit.preflight.origins import Origins
from lightning_debugkit.preflight.overfit import CANNOT_OVERFIT, overfit
from lightning_debugkit.preflight.padding_masks import PaddingMasks
from lightning_debugkit.preflight.probe import Probe, cannot_pass
from lightning_debugkit.preflight.unused_input import judge_masks, judge_pairs
from lightning_debugkit.replay.step_replay import NotReplayable, muted, step_of

# Steps that are listened to, in training and in each of the first validations.
TRAINING_STEPS = 2
VALIDATIONS = 2
# Losses of exactly 0 in a row, from the first on, that no healthy beginning has.
ZEROS = 5
LOSSES = 8  # whose first values the report draws
NEEDS = Needs("PreflightCheck")


class PreflightCheck(DebugCallback):
    """Check the program before it trains: losses that are given what they do not want, predictions that see too much.

    The first steps are listened to: what each loss function of torch receives, at which line. Before the first step of
    a fit of at least 50 steps, the step is run a few times more on changed batches, in eval mode and with everything
    put back, to see what the predictions depend on. The training is never changed.

    Args:
        extra_passes: Run the extra passes; without them the steps are listened to only.
        overfit_batch: Let a few samples be memorised with the extra passes, for 10 seconds at most.
    """

    def __init__(self, extra_passes: bool = True, overfit_batch: bool = False) -> None:
        NEEDS.switch("extra_passes", extra_passes, "True is usual")
        NEEDS.switch("overfit_batch", overfit_batch, "False is usual")
        self.extra_passes = extra_passes
        self.overfit_batch = overfit_batch
        self._reset()

    def _reset(self) -> None:
        self._undo: Callable[[], None] = _nothing
        self._listener: StepListener | None = None
        self._names: dict[int, str] = {}
        self._heard = {"training": 0, "validation": 0, "test": 0}
        self._ends_heard = 0
        self._zeros: list[bool] = []
        self._loss: Tensor | None = None
        self._waiting: list[tuple[Finding, str]] = []  # of validation, until training has been judged
        self._found: set[str] = set()
        self._left_out: dict[str, str] = {}
        self._dropped: list[Dropped] = []
        self._losses: dict[str, str] = {}
        self._notes: dict[str, str] = {}
        self._by_heart: dict[str, Any] = {}
        self._at_start: dict[str, dict[str, float]] = {}

    def __getstate__(self) -> dict[str, Any]:
        # What is heard in a step stays with its fit.
        return {**self.__dict__, "_undo": _nothing, "_listener": None, "_names": {}, "_loss": None}

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        super().setup(trainer, pl_module, stage)
        if self.idle:
            return
        self._release()
        if stage == "fit":
            self._reset()
        self._heard["test"] = 0
        self._names = {id(part): name for name, part in pl_module.named_modules()}
        if has_compiled_code(pl_module):
            self._left_out["listening"] = "a part of the model is compiled, and would be compiled anew"

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if reason := cannot_rerun(trainer):
            self._left_out["listening"] = reason
        elif _is_first(trainer):
            where = self.where(trainer)
            self.emit_each(trainer, initialization.judge(pl_module, where))
            # True of many runs, and asking for little: they stand in the report's section, not among the findings.
            notes = (*initialization.judge_biases(pl_module, where), *initialization.judge_seed(where))
            self._notes = {note.rule: f"{note.message}. {note.advice}" for note in notes}

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if self._heard["training"] == 0 and self.extra_passes and _is_first(trainer):
            self._probe(trainer, pl_module, batch, batch_idx)
        if self._heard["training"] < TRAINING_STEPS:
            self._listen(trainer, "training", batch)
            self._heard["training"] += 1

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: Tensor) -> None:
        if len(self._zeros) < ZEROS:
            self._loss = loss.detach()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._settle(trainer, "training")
        if self._loss is not None:
            self._count_zeros(trainer, self._loss)
        if self._heard["training"] >= TRAINING_STEPS:
            self._flush(trainer)
            if len(self._zeros) >= ZEROS:
                self.rest("on_train_batch_start", "on_before_backward", "on_train_batch_end")

    def on_validation_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, *place: int) -> None:
        if not any(place) and self._heard["validation"] < VALIDATIONS:
            self._listen(trainer, "validation", batch)
            self._heard["validation"] += 1

    def on_test_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, *place: int) -> None:
        if not any(place) and not self._heard["test"]:
            self._listen(trainer, "test", batch)
            self._heard["test"] = 1

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, *place: int
    ) -> None:
        self._settle(trainer, "validation")

    def on_test_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, *place: int
    ) -> None:
        self._settle(trainer, "test")

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # The module's own follows those of all callbacks: what steps have kept, it puts together.
        if self._ends_heard >= VALIDATIONS or "listening" in self._left_out or cannot_rerun(trainer):
            return
        hook = "on_test_epoch_end" if trainer.testing else "on_validation_epoch_end"
        if overrides(pl_module, hook):
            self._ends_heard += 1
            self._release()
            self._listener = listener = StepListener(self._names, is_training=False)
            self._undo = around_next(pl_module, hook, lambda: listener)

    on_test_epoch_end = on_validation_epoch_end

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._settle_end(trainer, "test" if trainer.testing else "validation")
        if trainer.state.fn != "fit":
            self._flush_outside(trainer, pl_module)
        elif self._heard["training"] >= TRAINING_STEPS:
            self._flush(trainer)

    on_test_end = on_validation_end

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._flush(trainer)
        # It was so from the first step on: what came of it in the meantime stands behind.
        start = replace(self.where(trainer), epoch=0, step=0)
        self.emit_each(trainer, judge_dropped(self._dropped, pl_module, steps_taken(trainer), start))
        self.write(trainer, "measure", name="preflight", value=self._section())
        self._release()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        with contextlib.suppress(Exception):
            # A label that is out of range has ended the step: what was heard before it is the finding.
            self._settle(trainer, "training" if trainer.training else "test" if trainer.testing else "validation")
            self._flush(trainer)
        super().on_exception(trainer, pl_module, exception)

    def _section(self) -> dict[str, Any]:
        """Return what the report's section shows."""
        told: dict[str, Any] = {"left_out": self._left_out, "losses": self._losses, "notes": self._notes}
        told |= {"at_start": self._at_start} if self._at_start else {}
        return {**told, "by_heart": self._by_heart} if self._by_heart else told

    def _listen(self, trainer: Trainer, stage: str, batch: Any) -> None:
        self._release()
        if "listening" in self._left_out or cannot_rerun(trainer):
            return
        judge, origins = self._judge_early(trainer, stage), Origins.of_batch(batch)
        masks = PaddingMasks(leaf for _, leaf in leaves(batch))
        self._listener = listener = StepListener(self._names, stage == "training", judge, origins, masks)
        self._undo = around_next(trainer.strategy, f"{stage}_step", lambda: listener)

    def _judge_early(self, trainer: Trainer, stage: str) -> Callable[[LossCall], None]:
        """Return what judges targets before torch sees them: a device may die of a label that is out of range."""
        where = self.where(trainer)

        def judge(call: LossCall) -> None:
            self._waiting += [(finding, stage) for finding in targets.judge(call, where)]

        return judge

    def _settle(self, trainer: Trainer, stage: str) -> None:
        """Judge what was heard in the step that has just run, or broken off."""
        if (listener := self._take_listener()) is None:
            return
        where = self.where(trainer)
        is_first = stage == "training" and self._heard["training"] == 1 and _is_first(trainer, steps=1)
        found: list[Finding] = []
        with torch.no_grad():
            for call in listener.calls:
                self._losses.setdefault(call.place.source or call.function, call.function)
                found += output_activation.judge(call, where, stage)
                found += wrong_dimensions.judge_broadcast(call, where, stage == "training")
                if stage == "training":
                    found += loss_value.judge(call, where, is_first)
                    found += judge_pairs(call, where)
                if is_first and len(self._at_start) < LOSSES and (start := at_start(call)):
                    self._at_start.setdefault(call.place.source or call.function, start)
            found += wrong_dimensions.judge_outer(listener.outer, where, stage == "training")
            found += wrong_dimensions.judge_views(listener.views, listener.samples, where)
            found += wrong_dimensions.judge_scales(listener.mixed, where)
            found += output_activation.judge_picks(listener.picks.across, where)
            found += judge_metrics(listener.picks, listener.calls, where)
            found += box_corners.judge(listener.corners.read, where)
            found += [*judge_masks(listener.turned, where), *evaluation_noise.judge(listener.noise, where)]
            if stage == "training":
                found += targets.judge_shares(listener.shares, where)
                found += padding_targets.judge(listener.calls, listener.sequences, where)
                for call in listener.by_hand:
                    found += [*targets.judge(call, where), *loss_value.judge(call, where, is_first)]
                found += wrong_dimensions.judge_norms(listener.normed, where, *last_batch(trainer))
                found += output_activation.judge_twice(listener.twice, {each.rule for each in found}, where)
            if stage == "training" and self._loss is not None:
                found += loss_value.judge_sum([*listener.calls, *listener.by_hand], self._loss, where)
                found += loss_value.judge_likelihoods(listener.likelihoods, self._loss, where)
                found += loss_value.judge_grey(listener.grey, self._loss, where)
                calls = listener.calls if is_first and trains_all(trainer) else []
                found += loss_value.judge_negated(calls, self._loss * trainer.accumulate_grad_batches, where)
        self._waiting += [(finding, stage) for finding in found]
        if stage == "training":
            self._flush(trainer, stage)

    def _settle_end(self, trainer: Trainer, stage: str) -> None:
        """Judge the shapes that met at the end of an evaluation."""
        if (listener := self._take_listener()) is not None:
            where = self.where(trainer)
            found = [*wrong_dimensions.judge_outer(listener.outer, where, learns=False)]
            found += [each for call in listener.calls for each in wrong_dimensions.judge_broadcast(call, where, False)]
            self._waiting += [(finding, stage) for finding in found]

    def _take_listener(self) -> StepListener | None:
        """Return what has heard the last step, and leave it; ``None`` if none did."""
        listener = self._listener
        self._release()
        if listener is not None and listener.error is not None:
            self._left_out["listening"] = f"{type(listener.error).__name__} while the step was listened to"
            raise listener.error
        return listener

    def _flush(self, trainer: Trainer, stage: str = "") -> None:
        """Report what was found, of one stage or of all; one rule found in training is not reported for validation."""
        if not self._waiting:
            return
        due = [item for item in self._waiting if stage in ("", item[1])]
        self._waiting = [item for item in self._waiting if item not in due]
        for finding, of in sorted(due, key=lambda item: item[1]):
            if of == "training" or finding.rule not in self._found:
                self.emit(trainer, finding, about=str(finding.evidence.get("source", "")))
            if of == "training":
                self._found.add(finding.rule)

    def _flush_outside(self, trainer: Trainer, module: LightningModule) -> None:
        """Report what was found where no fit is under way."""
        found = [finding for finding, _ in self._waiting if finding.rule not in self._found]
        with self.telling(trainer, module, found):
            self._flush(trainer)

    def _count_zeros(self, trainer: Trainer, loss: Tensor) -> None:
        self._zeros.append(bool((loss == 0).all()))
        self._loss = None
        if len(self._zeros) == ZEROS and all(self._zeros):
            self.emit_each(trainer, [loss_value.ZERO_LOSS.found(self.where(trainer), steps=ZEROS)])

    def _probe(self, trainer: Trainer, module: LightningModule, batch: Any, batch_idx: int) -> None:
        if reason := cannot_pass(trainer, module):
            self._left_out["passes"] = reason
            return
        with muted(trainer, module):
            try:
                step = step_of(trainer, module, batch, batch_idx, RandomState.capture())
            except NotReplayable as error:
                self._left_out["passes"] = str(error)
                return
        probe = Probe(step, lambda: muted(trainer, module))
        checks = Checks(probe, self.where(trainer), batch_size_of(trainer.train_dataloader), trainer.optimizers)
        with probe.session():
            found = list(checks.run())
        self._left_out |= checks.left_out
        self._dropped = checks.dropped
        self.emit_each(trainer, found)
        if self.overfit_batch:
            self._overfit(trainer, probe)

    def _overfit(self, trainer: Trainer, probe: Probe) -> None:
        if scaler_of(trainer) is not None:
            self._left_out[CANNOT_OVERFIT.name] = "gradients in half precision need a loss that is scaled"
            return
        with probe.session():
            learned = overfit(probe, trainer.optimizers)
        if learned.left_out:
            self._left_out[CANNOT_OVERFIT.name] = learned.left_out
        self._by_heart = learned.as_dict()
        self.emit_each(trainer, learned.judge(self.where(trainer)))

    def _release(self) -> None:
        """Leave the strategy as it was; may be called twice."""
        self._undo()
        self._undo = _nothing
        self._listener = None


def _nothing() -> None:
    """Undo nothing."""


def _is_first(trainer: Trainer, steps: int = 0) -> bool:
    """Tell whether the weights are those that the program starts with."""
    return steps_taken(trainer) <= steps and trainer.ckpt_path is None
