"""What happens when a step is broken: replay it, agree among ranks, tell, and stop, skip or go on."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.optim import Optimizer

from lightning_debugkit.core.anomaly import TrainingAnomaly
from lightning_debugkit.core.callback import DebugCallback
from lightning_debugkit.core.compat import LightningModule, Trainer, divides_by_scale
from lightning_debugkit.core.dispatch_modes import cannot_enter
from lightning_debugkit.core.finding import Finding
from lightning_debugkit.core.held_state import cannot_undo
from lightning_debugkit.core.optimizers import held_in, scaler_of
from lightning_debugkit.core.run import Run, current_run, stop
from lightning_debugkit.core.sharding import cannot_rerun, holds_whole_model, is_sharded, unwrapped_name
from lightning_debugkit.monitors.artifacts import save_bundle, save_samples
from lightning_debugkit.monitors.culprit_entries import entries_below, known_entries
from lightning_debugkit.monitors.kept_buffers import KeptBuffers
from lightning_debugkit.monitors.parameters.buffers import BufferCause
from lightning_debugkit.monitors.step_stats import ObservedBatch, StepStatsReader
from lightning_debugkit.replay.diagnosis import Diagnosis
from lightning_debugkit.replay.module_hooks import ModuleHooks
from lightning_debugkit.replay.nonfinite_cause_messages import Circumstances, LossRise
from lightning_debugkit.replay.nonfinite_entries import broken as broken_entries
from lightning_debugkit.replay.nonfinite_rules import cause
from lightning_debugkit.replay.nonfinite_rules import finding as worded
from lightning_debugkit.replay.passes import attribute_tensors
from lightning_debugkit.replay.step_raised import (
    device_is_lost,
    explained,
    is_of_anomaly_mode,
    lost_device,
    scaled_overflow,
)
from lightning_debugkit.replay.step_replay import NotReplayable, Writes, overflows, replay_step

_GIVEN_UP = "max_skips={most} updates were dropped before it, and no more may be: a larger max_skips drops more"
_MAX_REPLAYS = 5  # in a run that goes on: the first few say what there is to say


class NonfiniteStep:
    """Deal with steps whose loss or gradients are not finite."""

    def __init__(self, action: str, max_skips: int, max_bundle: int) -> None:
        self.action = action  # `raise`, `stop`, `skip` or `warn`
        self.max_skips = max_skips
        # bytes of model and batch that may be left to run the step again; 0 leaves nothing
        self.max_bundle = max_bundle
        self.bundled = False
        self.skips = 0
        self.replays = 0
        self.enough = False  # replays: what there is to say has been said
        self.pending: Finding | None = None  # seen in an earlier batch of the accumulation window
        self.last: Finding | None = None
        self.growth: LossRise | None = None  # of the loss, in the steps before the one that is looked at
        self.buffers = KeptBuffers()

    def begin(self, module: LightningModule, first: bool, is_new_epoch: bool) -> None:
        """Keep the small buffers of before the window: a dropped update must leave no mark in batch norm statistics."""
        if self.action != "warn" and first:
            self.buffers.keep(module, is_new_epoch)

    def recovered(self) -> None:
        """Take note of a sound step."""
        self.enough = self.replays >= _MAX_REPLAYS

    def agreed(self, trainer: Trainer, bad: bool, broken: bool, scaled: bool) -> bool:
        """Tell whether the step is bad on any rank.

        With one process, and with DDP, nothing is asked: averaged gradients carry every rank's NaN. Only where a loss
        scale makes broken gradients an everyday matter do the ranks ask each other, at such a step. Where they hold
        shards, the look has asked already.

        Args:
            bad: This rank calls the step bad.
            broken: The gradients are not finite.
            scaled: A GradScaler scales the loss.
        """
        if trainer.world_size == 1 or is_sharded(trainer) or (holds_whole_model(trainer) and not (broken and scaled)):
            return bad
        return bool(trainer.strategy.reduce_boolean_decision(bad, all=False))

    def examine(
        self,
        callback: DebugCallback,
        trainer: Trainer,
        module: LightningModule,
        seen: str,
        broken: list[str],
        step_stats: StepStatsReader,
        hooks: ModuleHooks | None,
        instead: Callable[[Finding], Finding] = lambda found: found,
    ) -> Finding | None:
        """Replay the batch and return what is wrong with it, blamed ``instead``; ``None`` if told often enough."""
        if self.enough:
            return None
        self.replays += 1
        self.enough = self.replays >= _MAX_REPLAYS or self.action == "warn"
        batch, told, found, note = self._guilty(trainer, module, step_stats)
        seen = told or seen
        hooked = _hooked(hooks)
        is_culprit = hooked is not None or (not holds_whole_model(trainer) and seen.startswith("loss"))
        if found is None and trainer.world_size > 1 and not is_culprit:
            return None  # this rank's batch is sound: the one whose batch is not will tell
        is_current = batch is step_stats.current
        finding = worded(
            callback.where(trainer),
            found,
            replace(
                _circumstances(trainer, batch, found, note, is_last=trainer.is_last_batch and is_current),
                growth=self.growth,
            ),
            hooked=hooked,
            seen=seen,
            loss=step_stats.loss if is_current else None,
            parameters=broken if is_current else [],
        )
        finding = instead(finding)
        self._leave(callback, trainer, module, batch, finding, bundle=found is not None)
        return finding

    def _guilty(
        self, trainer: Trainer, module: LightningModule, step_stats: StepStatsReader
    ) -> tuple[ObservedBatch, str, Diagnosis | None, str]:
        """Return the batch of the window that broke it, what its loss tells, and its replay or why there is none."""
        for batch, told in step_stats.suspects():
            found, note = self._replayed(trainer, module, batch)
            if told or found is not None:
                return batch, told, found, note
        return (step_stats.current, "", *self._replayed(trainer, module, step_stats.current))

    def explain(
        self, callback: DebugCallback, trainer: Trainer, module: LightningModule, error: Exception, batch: ObservedBatch
    ) -> Finding | None:
        """Replay the step that raised ``error`` and return what led to it; ``None`` if the error itself says all."""
        if self.enough or batch.random is None or batch.batch is None:
            return None
        where, batch_idx = callback.where(trainer), batch.batch_idx
        if device_is_lost(error):
            return lost_device(where, error, batch_idx)
        step = (trainer, module, batch.batch, batch_idx, batch.random)
        self.replays += 1
        try:
            found = replay_step(*step, asked=batch.asked, raises=type(error))
        except NotReplayable:
            return None
        scaler = scaler_of(trainer)
        if found is None:
            if scaler is None or not is_of_anomaly_mode(error) or not overflows(*step, scaler.get_scale()):
                return None
            return scaled_overflow(where, error, scaler.get_scale(), batch_idx)
        when = _circumstances(trainer, batch, found, "", is_last=trainer.is_last_batch)
        finding = explained(where, found, when, error=type(error).__name__)
        self._leave(callback, trainer, module, batch, finding, bundle=True)
        return finding

    def wrote(
        self, trainer: Trainer, module: LightningModule, names: Sequence[str], batch: ObservedBatch
    ) -> BufferCause | None:
        """Run the step again that has broken these buffers and return why, ``None`` if that does not tell."""
        if batch.random is None or self.action == "warn":
            return None
        step = (trainer, module, batch.batch, batch.batch_idx, batch.random, batch.asked)
        try:
            found = replay_step(*step, writes=Writes(names, self.buffers.put_back))
        except NotReplayable:
            return None
        if found is None or found.origin == "parameter" or not (found.op or found.path):
            return None
        when = _circumstances(trainer, batch, found, "", is_last=trainer.is_last_batch)
        what, remedy = cause(found, when, trainer.global_step)
        evidence = {"op": found.op, "source": found.source, "dataset_indices": list(when.dataset_indices)}
        return BufferCause(what, remedy, list(found.samples), evidence)

    def _leave(
        self,
        callback: DebugCallback,
        trainer: Trainer,
        module: LightningModule,
        batch: ObservedBatch,
        finding: Finding,
        bundle: bool,
    ) -> None:
        """Leave the samples and, if they show the fault, what is needed to run the step again."""
        run = current_run(trainer)
        if run is not None:
            place = {"epoch": finding.where.epoch, "step": finding.where.step}
            try:
                for fields in save_samples(run.folder, batch, finding, **place):
                    run.append("artifact", rank=run.rank, **fields)
                if self.max_bundle and bundle and not self.bundled:
                    fields = save_bundle(run.folder, trainer, module, batch, finding, self.max_bundle)
                    self.bundled = True
                    run.append("artifact", rank=run.rank, **place, **fields)
            except Exception as error:
                callback.trouble(trainer, "leaving the failing step behind", error)

    def _replayed(
        self, trainer: Trainer, module: LightningModule, batch: ObservedBatch
    ) -> tuple[Diagnosis | None, str]:
        if batch.random is None:
            return None, "the step began before the detector saw it"
        if self.action != "raise" and (reason := cannot_undo(module)):
            return None, f"the step could not be run again: {reason}"
        step = (trainer, module, batch.batch, batch.batch_idx, batch.random, batch.asked)
        try:
            if (found := replay_step(*step)) is None and (held := _replaced(module, batch.held)):
                with _put_back(module, held):
                    found = replay_step(*step)
        except NotReplayable as reason:
            why = cannot_enter() if "Creating a new Tensor subclass" in str(reason) else ""
            return None, f"the step could not be run again: {why or reason}"
        return found, "" if found else f"the replay of the step did not reproduce it{_kept_broken(module)}"

    def act(
        self,
        callback: DebugCallback,
        trainer: Trainer,
        optimizer: Optimizer,
        found: Finding | None,
        broken: Sequence[str],
    ) -> None:
        """Tell what was found and do what was chosen, alike on all ranks.

        Args:
            optimizer: Whose update is to be dropped.
            broken: Parameters whose gradient is not finite: with DDP, all ranks know.

        Raises:
            TrainingAnomaly: With ``action="raise"``, or when too many updates were dropped.
        """
        self.pending = None
        if found is not None:
            found = self._marked(found)
            callback.emit(trainer, found, is_raised=self.action == "raise" and trainer.world_size == 1)
        if trainer.world_size > 1 and holds_whole_model(trainer) and not broken:
            return  # the other ranks do not know: what is done alone would make them wait for ever
        told = _gathered(trainer, found)
        first = self.last = next((finding for finding in told if finding is not None), self.last)
        if first is None:
            # No rank's replay shows it: the first one tells what was seen.
            reason = cannot_rerun(trainer)
            when = Circumstances(-1, note=f"the step could not be run again: {reason}" if reason else "")
            parameters = broken if reason else []
            first = worded(callback.where(trainer), None, when, seen="gradient is not finite", parameters=parameters)
            first = self._marked(first)
            self.last = first  # told once
            if trainer.is_global_zero:
                callback.emit(trainer, first)
        if callback.is_ignored(trainer, first) or self._goes_on(current_run(trainer), broken):
            return
        self._drop(trainer, optimizer)
        if self.action == "skip" and self.skips <= self.max_skips:
            return
        if self.action == "stop":
            stop(trainer, f"{first.rule}, with action='stop'")
            return
        run = current_run(trainer)
        if self.action == "skip":
            now = callback.where(trainer).step  # the finding is of a step before, where no more are replayed
            again = "" if now == first.where.step else f"; step {now} is broken, too"
            first = replace(first, message=f"{first.message}{again}; {_GIVEN_UP.format(most=self.max_skips)}")
        error = TrainingAnomaly(first, str(run.folder / "report.html") if run else "")
        # A worker process of a spawning strategy never reaches on_exception: the report is rendered now.
        callback.finish(trainer, "exception", error, force=True)
        # All ranks are here. The first to leave takes the others down with it: rank 0 is to finish the report first.
        trainer.strategy.barrier("debugkit")
        raise error

    def _goes_on(self, run: Run | None, broken: Sequence[str]) -> bool:
        """Count what is skipped; tell whether the broken update is made all the same."""
        self.skips += self.action == "skip"
        if run is not None:
            run.skipped += self.action == "skip" and self.skips <= self.max_skips
            run.is_broken |= self.action == "warn" and bool(broken)
        return self.action == "warn"

    def _marked(self, found: Finding) -> Finding:
        """Return ``found`` with what becomes of the update, if the run goes on without it."""
        return replace(found, evidence={**found.evidence, "update": "skipped"}) if self.action == "skip" else found

    def _drop(self, trainer: Trainer, optimizer: Optimizer) -> None:
        """Let the update that follows change nothing, and take its mark off the buffers."""
        skips_itself = scaler_of(trainer) is not None and divides_by_scale(optimizer)
        for parameter in held_in(optimizer):
            if skips_itself:
                if parameter.grad is not None:
                    parameter.grad.fill_(torch.inf)  # the scaler skips the step itself
            else:
                parameter.grad = None
        if (run := current_run(trainer)) is not None:
            run.norms = None  # they were of the gradients that are gone
        self.buffers.put_back()


def _replaced(module: LightningModule, held: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors that the step has replaced in attributes of the module by others."""
    return {name: value for name, value in held.items() if name in vars(module) and vars(module)[name] is not value}


@contextlib.contextmanager
def _put_back(module: LightningModule, held: Mapping[str, Tensor]) -> Iterator[None]:
    """Give the module those that the step began with, for a while."""
    now = {name: vars(module)[name] for name in held}
    vars(module).update(held)
    try:
        yield
    finally:
        vars(module).update(now)


def _kept_broken(module: LightningModule) -> str:
    """Tell what the model keeps that holds NaN: the step may have used it, and has changed it since."""
    kept = next((name for name, tensor in attribute_tensors(module) if broken_entries(tensor)[0]), "")
    return f"; {kept} holds nan, which was kept from an earlier step" if kept else ""


def _circumstances(
    trainer: Trainer, batch: ObservedBatch, found: Diagnosis | None, note: str, is_last: bool
) -> Circumstances:
    entries, unnamed = known_entries(trainer, batch.handed, batch.batch, found)
    below, is_low = entries_below(batch.handed, found, entries), str(trainer.precision).startswith("16")
    return Circumstances(batch.batch_idx, entries, below, note or unnamed, is_low, is_last)


def _hooked(hooks: ModuleHooks | None) -> tuple[str, str] | None:
    """Return the module that hooks in the step itself saw break first, and in which pass."""
    if hooks is None:
        return None
    if module := hooks.first_bad_activation():
        return "activation", unwrapped_name(module)
    if module := hooks.first_bad_gradient():
        return "gradient", unwrapped_name(module)
    return None


def _gathered(trainer: Trainer, found: Finding | None) -> list[Finding | None]:
    """Return the finding of each rank; all ranks are here, as they all saw the averaged gradients."""
    told: list[Finding | None] = [None] * trainer.world_size
    if trainer.world_size > 1 and torch.distributed.is_initialized():
        torch.distributed.all_gather_object(told, found)
        return told
    return [found]
