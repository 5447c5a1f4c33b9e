"""Calls the rules of the loops: schedules, windows, flags and losses of a fit, and what validation and test show."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from lightning_debugkit.core.compat import LightningModule, Trainer, callbacks_of, is_trial
from lightning_debugkit.core.finding import Finding, Where
from lightning_debugkit.core.optimizers import held_by
from lightning_debugkit.core.run import current_run
from lightning_debugkit.core.sharding import holds_whole_model
from lightning_debugkit.monitors.empty_epochs import EmptyEpochs, who_raised
from lightning_debugkit.monitors.gradients.kept_graphs import KeptGraphs
from lightning_debugkit.monitors.metric_resets import MetricResets
from lightning_debugkit.monitors.monitor_mode import MonitorModes
from lightning_debugkit.monitors.nonfinite_validation import Evaluation
from lightning_debugkit.monitors.observed_step import StepStats
from lightning_debugkit.monitors.optimization.accumulation_window import unfilled
from lightning_debugkit.monitors.optimization.double_steps import DoubleSteps
from lightning_debugkit.monitors.optimization.learning_rate_restored import ResumedRates
from lightning_debugkit.monitors.optimization.never_stepped import no_step
from lightning_debugkit.monitors.optimization.no_loss import Losses
from lightning_debugkit.monitors.optimization.optimizer_mode import OptimizerModes
from lightning_debugkit.monitors.optimization.optimizer_nonfinite import Authors
from lightning_debugkit.monitors.optimization.scheduler_never_stepped import Unstepped
from lightning_debugkit.monitors.optimization.toggles import Toggles
from lightning_debugkit.monitors.optimization.uncounted_steps import UncountedSteps
from lightning_debugkit.monitors.parameters.broken_at_start import broken_parameters
from lightning_debugkit.monitors.parameters.buffers import BufferCause, Buffers
from lightning_debugkit.monitors.parameters.thawed_backbone import frozen_again
from lightning_debugkit.monitors.parameters.train_eval_mode import EvaluationMode
from lightning_debugkit.monitors.parameters.validated_copies import ValidatedCopies
from lightning_debugkit.monitors.parameters.validation_weights import SwappedWeights, ValidatedWeights
from lightning_debugkit.monitors.parameters.weights_not_loaded import Loads
from lightning_debugkit.monitors.plain_totals import PlainTotals
from lightning_debugkit.monitors.step_stats import ObservedBatch, StepStatsReader
from lightning_debugkit.monitors.unmet_monitors import UnmetMonitors
from lightning_debugkit.monitors.validation_answers import ValidationAnswers
from lightning_debugkit.replay.diagnosis import Diagnosis
from lightning_debugkit.replay.hidden_step_replay import why_no_loss

Wrote = Callable[[Trainer, LightningModule, Sequence[str], ObservedBatch], BufferCause | None]


class LoopMonitor:
    """Call each of its rules when there is something for it to see: beside the steps, which `Monitor` looks at."""

    def __init__(self, wiring: bool, loads: Loads) -> None:
        self.wiring = wiring  # watch schedules, windows, flags and loads, not only numbers
        self.answers = ValidationAnswers()
        self.authors = Authors()
        self.buffers = Buffers()
        self.copies = ValidatedCopies()
        self.doubles = DoubleSteps()
        self.empty = EmptyEpochs()
        self.evaluation = Evaluation()
        self.evaluation_mode = EvaluationMode()
        self.kept = KeptGraphs()
        self.loads = loads
        self.losses = Losses()
        self.modes = OptimizerModes()
        self.monitored = MonitorModes()
        self.rates = ResumedRates()
        self.resets = MetricResets()
        self.totals = PlainTotals()
        self.swapped = SwappedWeights()
        self.toggles = Toggles()
        self.uncounted = UncountedSteps()
        self.unmet = UnmetMonitors()
        self.unstepped = Unstepped()
        self.validated = ValidatedWeights()
        self._batches = 0  # of this fit

    def state_dict(self) -> dict[str, Any]:
        return {"asked": list(self.rates.asked or self.rates.before)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.rates.before = [float(rate) for rate in state.get("asked", [])]

    def start(self, trainer: Trainer, module: LightningModule) -> None:
        """Take flags and counts as they are before the first step."""
        if self.wiring:
            self.toggles.begin(module)
            self.uncounted.begin(trainer)
            self.unstepped.begin(trainer)

    def first_batch(self, trainer: Trainer, module: LightningModule, where: Where) -> Iterator[Finding]:
        """Yield what was not loaded; take what statistics and weights are like before they train."""
        self.loads.stop()
        self.buffers.begin(where, module)
        if holds_whole_model(trainer):
            held = held_by(trainer.optimizers)
            self.validated.begin(where, module, held)
            self.copies.begin(where, module, held)
        yield from self.loads.judge(where, module)
        if self.wiring:  # here on_train_start is over, in which a program may set its rates
            yield from self.rates.judge(where, trainer)
            yield from frozen_again(where, trainer, module)
            yield from self.unstepped.first_batch(where, trainer)
            yield from self.unmet.begin(where, trainer)

    def before_batch(self, trainer: Trainer, module: LightningModule, where: Where, batch: Any) -> Iterator[Finding]:
        """Yield what was done between two batches; take counts as they are before the first of an epoch."""
        if self.empty.is_first("training"):
            self.resets.before_batch(module, "training")
            self.monitored.listen(trainer, module, "training_step", batch)
        yield from self.doubles.before_batch(trainer, module, where)
        if self.swapped.is_open:
            yield from self.swapped.trains(where, module)

    def raised(
        self, trainer: Trainer, module: LightningModule, where: Where, error: BaseException
    ) -> Iterator[Finding]:
        """Yield what made a step raise ``error`` before any optimizer could step in vain."""
        if self.wiring:
            yield from self.toggles.raised(where, module, error)
            yield from self.doubles.raised(where, trainer, error)

    def new_epoch(self, trainer: Trainer, module: LightningModule, where: Where) -> Iterator[Finding]:
        """Yield what the epoch before did not do, and what this one is not going to."""
        self.empty.begin("training")
        yield from self.kept.new_epoch(module, where) if self.wiring else ()
        if self.wiring and not is_limited(trainer):
            yield from self.unstepped.judge(where, trainer, module)
            yield from _window(trainer, module, where, float(trainer.num_training_batches))

    def before_step(self, look: StepStats, module: LightningModule, step_stats: StepStatsReader) -> Iterator[Finding]:
        """Yield what an optimizer is about to step in vain."""
        if look.frozen or self.toggles.off:
            yield from self.toggles.before_step(look, module, step_stats.current.batch_idx)
        if step_stats.fit.has_modes:
            yield from self.modes.before_step(look.where, look.optimizer)

    def crawling(self, trainer: Trainer, module: LightningModule, crawling: Finding) -> Iterator[Finding]:
        """Yield a finding about steps that are too small, or why they are."""
        # A warm-up that nobody steps crawls for want of a step, whatever the rate; one by epochs may still come.
        yield from self.unstepped.judge(crawling.where, trainer, module, epochs=1)
        if not self.unstepped.silent(trainer, module, epochs=2):
            yield crawling

    def after_batch(
        self, trainer: Trainer, module: LightningModule, where: Where, step_stats: StepStatsReader, wrote: Wrote
    ) -> Iterator[Finding]:
        """Yield what a batch tells that is over, of its loss and of what it has left in the model."""
        fit = step_stats.fit
        self._batches += 1
        self.empty.batch("training")
        if self.wiring:
            if "training" in self.resets.begun:
                yield from self.resets.after_batch(where, trainer, "training")
            if self.monitored.hears:
                yield from self.monitored.judge(where, trainer)
            yield from self.doubles.after_batch(trainer, where, fit.optimizers)
            if not fit.is_automatic and (told := self.uncounted.judge(where, trainer)) is not None:
                yield told
            if _validates_next(trainer, step_stats.current.batch_idx) and fit.holds_whole_model:
                self.swapped.after_batch(where, trainer, module, held_by(fit.optimizers))
        if not fit.trains:
            return
        batch = step_stats.current

        def ask() -> Diagnosis | None:
            return why_no_loss(trainer, module, batch.batch, batch.batch_idx, batch.random)

        # Automatic optimization looks at each step, also where there was no loss.
        marks = (step_stats.passes, 0 if fit.is_automatic else step_stats.looks)
        for finding in self.losses.after_batch(where, batch.batch_idx, module, marks, ask):
            yield from self._lossless(where, module, [finding])
        if self.buffers.due(where.step) and not _is_told(trainer):
            yield from self.buffers.look(where, module, batch.batch, lambda names: wrote(trainer, module, names, batch))
        self.validated.moved(where, module)

    def end_epoch(self, trainer: Trainer, module: LightningModule, where: Where) -> Iterator[Finding]:
        """Yield what the epoch shows."""
        yield from self._lossless(where, module, self.losses.end_epoch(where, module))
        yield from () if _is_told(trainer) else self.buffers.look(where, module)
        yield from self.kept.parameters(module, where) if self.wiring else ()
        loop: Any = trainer.fit_loop.epoch_loop.batch_progress.current
        # A hook that gives -1 leaves out the rest of the epoch, and means it.
        if self.wiring and loop.processed == loop.completed:
            yield from self.empty.end(where, "training", trainer.train_dataloader, who_raised(trainer))
        if self.wiring and not math.isfinite(trainer.num_training_batches) and not is_limited(trainer):
            batches = trainer.fit_loop.epoch_loop.batch_progress.current.ready
            yield from _window(trainer, module, where, batches)

    def conclude(self, trainer: Trainer, module: LightningModule, where: Where) -> Iterator[Finding]:
        """Yield what can only be said when training is over."""
        yield from self.authors.conclude(where, module)
        yield from self.losses.end_epoch(where, module, last=True)
        if self.wiring and not trainer.interrupted and not is_limited(trainer):
            yield from self.unstepped.judge(where, trainer, module, is_over=True)
        if self.wiring and not trainer.interrupted:
            run = current_run(trainer)
            yield from self.answers.conclude(run.trained or 0 if run is not None else 0)
            yield from self.unmet.conclude(where, trainer)
            yield from self.empty.conclude(where, "training", trainer.train_dataloader)
            yield from self.empty.conclude(where, "validation", trainer.val_dataloaders)

    def end_fit(self, trainer: Trainer, module: LightningModule, where: Where) -> Iterator[Finding]:
        """Yield what the fit leaves, now that all others have done what they do at its end."""
        yield from self.validated.conclude(where, trainer, module)
        run = current_run(trainer)
        if not self._batches and not trainer.interrupted and run is not None and not run.trained:
            yield no_step(where, trainer)
        elif self.wiring:
            yield from self.modes.conclude(where, trainer.optimizers)

    def start_evaluation(self, trainer: Trainer, module: LightningModule, where: Where) -> Iterator[Finding]:
        """Yield what training has left that validation is going to meet."""
        self.evaluation.begin()
        if not trainer.testing:
            self.empty.begin("validation")
            self.swapped.starting(trainer, module)
        if self.wiring and _is_validation_of_fit(trainer) and holds_whole_model(trainer):
            self.answers.begin(module, only_numbers=_judges_classes(trainer))
        if not (trainer.sanity_checking or trainer.testing or _is_told(trainer)):
            yield from self.buffers.look(where, module)

    def before_evaluation_batch(
        self, trainer: Trainer, module: LightningModule, where: Where, batch: Any, place: tuple[int, int]
    ) -> Iterator[Finding]:
        """Yield what is wrong with what validates, once all hooks of its begin have had their turn."""
        batch_idx = place[0]
        self.evaluation.before_batch(batch, place)
        self.empty.batch("validation")
        if batch_idx == 0 and self.wiring and trainer.state.fn == "fit":
            self.resets.before_batch(module, "validation")
            self.monitored.listen(trainer, module, "validation_step", batch)
        if _is_validation_of_fit(trainer) and place[1] == 0:
            self.answers.listen(module)
        if batch_idx == 0 and _is_validation_of_fit(trainer):
            self.validated.validating(where, module)
            self.copies.listen(where, module)
            if self.wiring:
                self.swapped.validating(where, trainer, module)
                yield from self.modes.validating(where, trainer.optimizers)

    def evaluated(
        self, trainer: Trainer, module: LightningModule, where: Where, outputs: Any, batch: Any, place: tuple[int, int]
    ) -> Iterator[Finding]:
        """Yield what is wrong with a batch of validation or test; broken weights are told by who broke them."""
        self.answers.after_batch(batch)
        if self.wiring:
            stage = "the test" if trainer.testing else "validation"
            yield from self.evaluation_mode.judge(where, module, stage, place[0])
            yield from self.resets.after_batch(where, trainer, "validation")
            yield from self.monitored.judge(where, trainer) if self.monitored.hears else ()
        for finding in self.evaluation.after_batch(where, trainer, module, outputs, batch, place):
            # The numbers broke before this batch, or nothing is known of it, as when enough were run again.
            is_old = finding.evidence.get("origin") in ("parameter", "")
            author = self.authors.blame(where, module) if is_old else None
            if author is not None:
                yield author
            elif not (is_old and (self.buffers.told or (_is_told(trainer) and broken_parameters(module)))):
                yield finding

    def end_evaluation(self, trainer: Trainer, module: LightningModule, where: Where) -> Iterator[Finding]:
        """Yield what the whole evaluation shows."""
        yield from self.evaluation.end(where, trainer)
        self.answers.end(where)
        if self.wiring and _is_validation_of_fit(trainer):
            self.monitored.computed(trainer, module)
            yield from self.monitored.judge(where, trainer)
            yield from self.resets.end_validation(where)
            yield from self.totals.end_validation(where, trainer, module)
            yield from self.empty.end(where, "validation", trainer.val_dataloaders)
        yield from self.validated.trained(where, trainer, module)
        yield from self.copies.judge(where, module)

    def release(self) -> None:
        """Let go of the model and of what was listened to; may be called twice."""
        self.evaluation.release()
        self.answers.release()
        self.loads.stop()
        self.authors.release()
        self.copies.release()
        self.doubles.release()
        self.evaluation_mode.release()
        self.monitored.release()
        self.swapped = SwappedWeights()

    def _lossless(self, where: Where, module: LightningModule, findings: Iterable[Finding]) -> Iterator[Finding]:
        """Yield findings about batches without a loss, behind what broke the weights if that is why."""
        for finding in findings:
            if finding.evidence["broken"]:
                yield from self.authors.conclude(where, module)
            yield finding


def _judges_classes(trainer: Trainer) -> bool:
    """Tell whether another callback judges by all samples what the model answers, as those of evaluation do classes."""
    return any(getattr(callback, "judges_answers", False) for callback in callbacks_of(trainer))


def _is_told(trainer: Trainer) -> bool:
    """Tell whether a broken step was reported and went into the weights: they and their buffers are no news then."""
    run = current_run(trainer)
    return run is not None and run.is_broken


def is_limited(trainer: Trainer) -> bool:
    """Tell whether the run sees only some of the batches: 1.0 is all of them, 1 is one."""
    limit = trainer.limit_train_batches
    return is_trial(trainer) or not (isinstance(limit, float) and limit == 1.0)


def _window(trainer: Trainer, module: LightningModule, where: Where, batches: float) -> Iterator[Finding]:
    if module.automatic_optimization and not trainer.strategy.handles_gradient_accumulation:
        yield from unfilled(where, trainer.accumulate_grad_batches, batches, trainer.optimizers)


def _validates_next(trainer: Trainer, batch_idx: int) -> bool:
    """Tell whether a validation may follow this batch."""
    every = trainer.val_check_batch
    is_due = trainer.is_last_batch or (every is not None and (batch_idx + 1) % every == 0)
    return is_due and bool(trainer.enable_validation)


def _is_validation_of_fit(trainer: Trainer) -> bool:
    return trainer.state.fn == "fit" and not trainer.sanity_checking


def zeroed(trainer: Trainer) -> bool:
    """Tell whether gradients that are all zero were divided by an infinite norm, by the clipping before."""
    run = current_run(trainer)
    if run is None or run.clip_norm is None:
        return False
    return not math.isfinite(float(run.clip_norm))
