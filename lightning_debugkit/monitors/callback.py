"""Find what goes wrong with gradients: numbers that break, run away or die out, and parameters wired wrongly."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from functools import partial
from typing import Any, Literal

from lightning.pytorch import LightningModule, Trainer
from torch import Tensor
from torch.optim import Optimizer

from lightning_debugkit.core.anomaly import TrainingAnomaly
from lightning_debugkit.core.arguments import Needs
from lightning_debugkit.core.finding import Finding
from lightning_debugkit.core.fit_facts import FitFacts
from lightning_debugkit.core.journal_writer import NamedNumbers
from lightning_debugkit.core.optimizer_steps import OptimizerSteps
from lightning_debugkit.core.optimizers import raw
from lightning_debugkit.core.rng import RandomState
from lightning_debugkit.core.run import Run, current_run
from lightning_debugkit.core.sampling import Thinning
from lightning_debugkit.core.sharding import unseen_shards
from lightning_debugkit.data.sample_order import SampleOrder
from lightning_debugkit.monitors.evaluation_hooks import EvaluationHooks
from lightning_debugkit.monitors.gradients.contagion import contagion
from lightning_debugkit.monitors.logged_metrics import LoggedMetrics
from lightning_debugkit.monitors.monitor import Monitor
from lightning_debugkit.monitors.nonfinite_step import NonfiniteStep
from lightning_debugkit.monitors.observed_step import StepStats
from lightning_debugkit.monitors.step_stats import ObservedBatch, StepStatsReader, held_tensors
from lightning_debugkit.replay.bundle import MAX_BYTES
from lightning_debugkit.replay.module_hooks import ModuleHooks
from lightning_debugkit.replay.step_raised import can_be_explained

Action = Literal["raise", "stop", "skip", "warn"]


class GradientAnomalyDetector(EvaluationHooks):
    """Find broken numbers and broken wiring in training, and name operation, module, source line and samples.

    Each optimizer step costs one look at the loss and the gradient norms. Only when that look is bad, and before the
    weights are touched, the batch is run again under instruments. The training itself is never changed, unless a step
    is dropped by the action chosen.

    Args:
        action: What to do about loss or gradients that are not finite: ``raise`` stops with an exception that carries
            the finding, weights still clean; ``stop`` drops the update and ends the fit in order; ``skip`` drops the
            update and goes on; ``warn`` only reports.
        max_skips: Updates that ``skip`` may drop before it raises.
        hooks: ``replay`` instruments a step only when it is replayed; ``always`` looks at the output of every module in
            every step, so that the module is named even where the replay tells nothing.
        wiring: Look for parameters that are wired wrongly, too.
        bundle: Leave the failing step as a folder that ``lightning-debugkit replay`` runs again.
        max_bundle: Bytes that model and batch of a bundle may take of the disk; what does not fit is left out.
    """

    def __init__(
        self,
        action: Action = "raise",
        max_skips: int = 10,
        hooks: Literal["replay", "always"] = "replay",
        wiring: bool = True,
        bundle: bool = True,
        max_bundle: int = MAX_BYTES,
    ) -> None:
        needs = Needs("GradientAnomalyDetector")
        known = action in ("raise", "stop", "skip", "warn")
        needs.that("action", known, "'raise', 'stop', 'skip' or 'warn'", action, "'raise' keeps the weights clean")
        needs.one_of("hooks", hooks, ("replay", "always"), "'replay' costs nothing")
        needs.whole("max_skips", max_skips, 0, "10 is a good start")
        needs.whole("max_bundle", max_bundle, 1, f"{MAX_BYTES} is a good start, and bundle=False leaves none")
        needs.switch("wiring", wiring, "True is usual")
        needs.switch("bundle", bundle, "True is usual")
        self.action = action
        self.max_skips = max_skips
        self.hooks = hooks
        self.wiring = wiring
        self.bundle = bundle
        self.max_bundle = max_bundle
        self.watches = Monitor(wiring)
        self.order = SampleOrder()
        self.nonfinite = self._new_nonfinite()
        self._reset()

    def _new_nonfinite(self) -> NonfiniteStep:
        return NonfiniteStep(self.action, self.max_skips, self.max_bundle if self.bundle else 0)

    def _reset(self, run: Run | None = None) -> None:
        self._step_stats = StepStatsReader(run)
        self._module_hooks: ModuleHooks | None = None
        self._drawn: defaultdict[int, Thinning] = defaultdict(Thinning)  # by optimizer
        self._unread: set[str] = set()
        self._rates: tuple[Sequence[Sequence[float]], dict[str, float]] = (), {}  # as last journaled, and by name
        self._logged = LoggedMetrics()
        self._fed: dict[int, bool] = {}  # by optimizer: its next step has a gradient
        self._steps: OptimizerSteps | None = None
        self._is_epoch_new = True

    def __getstate__(self) -> dict[str, Any]:
        # Hooks, handles and batches of a fit in progress stay with it.
        return {
            **self.__dict__,
            "_steps": None,
            "_step_stats": StepStatsReader(),
            "_module_hooks": None,
            "_drawn": defaultdict(Thinning),
            "_logged": LoggedMetrics(),
        }

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "watches": self.watches.state_dict(), "skips": self.nonfinite.skips}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self.watches.load_state_dict(state_dict.get("watches", {}))
        self.nonfinite.skips = state_dict.get("skips", 0)

    # The order below is the order of events in a run.

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        super().setup(trainer, pl_module, stage)
        if stage == "fit" and not self.idle:
            # Before anything is restored: a fit that resumes gets its memory back after this.
            self._reset(current_run(trainer))
            self.order = SampleOrder()
            self.order.install(trainer)
            self.watches.setup(pl_module)
            self.nonfinite = self._new_nonfinite()

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._step_stats.fit = FitFacts(trainer, pl_module)
        self.watches.loops.rates.asks(trainer.optimizers)
        if self.hooks == "always":
            self._module_hooks = ModuleHooks(pl_module)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if (run := current_run(trainer)) is not None:
            run.trained = 0
            run.norm_readers += 1
        self._steps = OptimizerSteps(self, trainer, pl_module, partial(self._stepped, trainer), own=True)
        if (why := unseen_shards(trainer, self.wiring)) and trainer.is_global_zero:
            self.write(trainer, "measure", name="gradients-unseen", value={"why": why})
        self._tell(trainer, self.watches.start(trainer, pl_module, self.where(trainer)))

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._is_epoch_new = True
        self._tell(trainer, self.watches.new_epoch(trainer, pl_module, self.where(trainer)))

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        step_stats = self._step_stats
        if self._is_epoch_new:  # the hooks of all others before its first batch have had their turn
            step_stats.fit, self._is_epoch_new = FitFacts(trainer, pl_module), False
        where = step_stats.fit.where(trainer)
        if step_stats.run is not None:
            step_stats.run.here = where if step_stats.fit.is_automatic else None
        self._tell(trainer, self.watches.before_batch(trainer, pl_module, where, batch))
        self.order.advance(trainer)
        around = self.watches.saves
        self._tell(trainer, around.before_batch(trainer, where, self.order.current, batch_idx))
        held = held_tensors(pl_module)
        step_stats.begin(ObservedBatch(batch, batch_idx, RandomState.capture(), self.order.handed, held))
        is_first = batch_idx % trainer.accumulate_grad_batches == 0
        self.nonfinite.begin(pl_module, first=is_first, is_new_epoch=batch_idx == 0)
        if self._module_hooks is not None and is_first:
            self._module_hooks.clear()

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: Tensor) -> None:
        step_stats = self._step_stats
        step_stats.saw_loss(loss)
        if step_stats.fit.ranks > 1 and self.action != "warn" and loss.requires_grad:
            # A loss that breaks on one rank must stop all of them: its gradients carry the news to the others.
            loss.register_hook(contagion(loss.detach(), lambda error: self.trouble(trainer, "backward", error)))
        where = self.in_batch(trainer, step_stats.run)
        self._tell(trainer, self.watches.before_backward(trainer, pl_module, loss, where, step_stats))

    def on_after_backward(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.watches.after_backward(pl_module, self._step_stats)
        self._step_stats.saw_backward()
        if self._step_stats.fit.window == 1 or not trainer.fit_loop._should_accumulate():
            return
        # The window's later batches would hide which of them was the bad one.
        if not self._step_stats.keep_batch():
            seen = self._step_stats.broken_so_far(trainer, pl_module)
            if seen and self.nonfinite.pending is None:
                self.nonfinite.pending = self._examine(trainer, pl_module, seen, [])

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        if self._steps is not None:
            self._steps.announced(optimizer)
        try:
            self._before_step(trainer, pl_module, raw(optimizer))
        finally:
            self._step_stats.window_over()

    def _before_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        step_stats = self._step_stats
        alarm = self.nonfinite.pending is not None
        weighed = self.watches.trends.weighs(optimizer)
        where = self.in_batch(trainer, step_stats.run)
        look = step_stats.look(trainer, pl_module, optimizer, where, alarm=alarm, weighed=weighed)
        self._fed[id(look.optimizer)] = look.has_gradients
        if look.overflows and (run := step_stats.run) is not None:
            run.wide_norms.setdefault(look.where.step, look.norm)
        bad_loss = step_stats.loss is not None and not math.isfinite(step_stats.loss)
        broken = look.broken
        bad = bad_loss or bool(broken)
        if look.is_scaled and not bad_loss:
            # Infinite gradients are how a loss scale is found: the scaler drops such steps itself.
            bad = self._overflowed(trainer, pl_module, look, broken, look.scale)
        alarm = self.nonfinite.pending is not None or look.alarm
        bad = bad or alarm
        if bad if step_stats.fit.ranks == 1 else self.nonfinite.agreed(trainer, bad, bool(broken), look.is_scaled):
            seen = f"loss is {step_stats.loss}" if bad_loss else "gradient is not finite"
            self._record(trainer, look, always=not self.nonfinite.enough)
            self._tell(trainer, self.watches.update_ratio.before_broken(look))
            self.nonfinite.growth = self.watches.trends.growth(look.highest_rate)
            found = self.nonfinite.pending or self._examine(trainer, pl_module, seen, broken)
            self._fed[id(look.optimizer)] &= self.action == "warn"
            self.nonfinite.act(self, trainer, look.optimizer, found, broken)
        elif not broken:
            self.nonfinite.recovered()
            self.watches.loops.authors.saw(look)
            self._record(trainer, look)
            self._tell(trainer, self.watches.before_step(trainer, pl_module, look, step_stats))

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        for watcher in (self._module_hooks, self._step_stats):
            if watcher is not None and watcher.error is not None:
                self.trouble(trainer, "hooks", watcher.error)
                watcher.error = None
        if (run := self._step_stats.run) is not None:
            run.here = None
            if run.parameters.unread:
                self._tell_unread(trainer, run)
        where = self._step_stats.fit.where(trainer)
        self._tell(trainer, self.watches.after_batch(trainer, pl_module, where, self._step_stats, self.nonfinite.wrote))
        self._step_stats.end()

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_validation_start(trainer, pl_module)
        self._tell(trainer, self.watches.saves.before_validation(trainer, self.where(trainer)))

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._tell(trainer, self.watches.end_epoch(trainer, pl_module, self.where(trainer)))
        self._logged.record(self, trainer, "epoch")

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_validation_end(trainer, pl_module)
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            self._logged.record(self, trainer, "validation")

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._tell(trainer, self.watches.conclude(trainer, pl_module, self.where(trainer)))
        self._release()

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._tell(trainer, self.watches.loops.end_fit(trainer, pl_module, self.where(trainer)))
        super().on_fit_end(trainer, pl_module)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        try:
            # One of ours has been told, also where it was raised within the step: by an optimizer stepped by hand.
            if not isinstance(exception, TrainingAnomaly) and can_be_explained(exception):
                assert isinstance(exception, Exception)
                evaluation = self.watches.loops.evaluation
                if evaluation.is_running:
                    self._tell(trainer, evaluation.raised(self.where(trainer), trainer, pl_module, exception))
                else:
                    found = self.nonfinite.explain(self, trainer, pl_module, exception, self._step_stats.current)
                    self._tell(trainer, [] if found is None else [found])
            self._tell(trainer, self.watches.loops.raised(trainer, pl_module, self.where(trainer), exception))
            self._tell(trainer, self.watches.saves.conclude(trainer, self.where(trainer), broken=True))
        finally:
            self._release()
        super().on_exception(trainer, pl_module, exception)

    def _release(self) -> None:
        """Leave model, optimizers and loaders without our hooks; may be called twice."""
        if self._steps is not None:
            self._steps.remove()
            self._steps = None
        self.watches.release()
        self.order.remove()
        if self._module_hooks is not None:
            self._module_hooks.remove()
            self._module_hooks = None
        self._step_stats = StepStatsReader()

    def _tell_unread(self, trainer: Trainer, run: Run) -> None:
        news = run.parameters.unread - self._unread
        if news and trainer.is_global_zero:
            self._unread |= news
            why = f"parameters of class {', '.join(sorted(self._unread))}, which give no numbers"
            self.write(trainer, "measure", name="gradients-unseen", value={"why": why})

    def _stepped(self, trainer: Trainer, optimizer: Optimizer) -> None:
        run, loops = self._step_stats.run, self.watches.loops
        if run is not None and self._fed.pop(id(optimizer), False):
            run.trained = (run.trained or 0) + 1
        loops.authors.stepped(optimizer)
        loops.doubles.stepped(optimizer)
        self._tell(trainer, self.watches.after_step(trainer, trainer.lightning_module, optimizer))

    def _record(self, trainer: Trainer, look: StepStats, always: bool = False) -> None:
        """Journal what the figures draw: of a long run, ever fewer of its steps."""
        if not (self._drawn[id(look.optimizer)].keeps(look.where.step) or always):
            return
        points: dict[str, Any] = {} if look.loss is None else {"loss": look.loss}
        if self._rates[0] != look.run_rates:  # seldom
            known = enumerate(zip(self._step_stats.fit.optimizers, look.run_rates, strict=True))
            # Lightning's stand-in for no optimizer has no groups.
            named = {type(o).__name__ + (f"-{i}" if i else ""): rates[0] for i, (o, rates) in known if rates}
            self._rates = look.run_rates, named
        own = {type(look.optimizer).__name__: rate for rate in look.group_rates[:1]}
        points["learning-rate"] = self._rates[1] or own
        if look.has_gradients:
            names = look.names if look.present is None else [look.names[at] for at in look.present]
            points["gradient-norms"] = NamedNumbers(names, look.found)
        self.measure(trainer, look.where, points)

    def _overflowed(
        self, trainer: Trainer, module: LightningModule, look: StepStats, broken: list[str], scale: float
    ) -> bool:
        """Tell whether the loss scale has collapsed; before it has, say what breaks the gradients without any scale."""
        collapse = self.watches.scale.judge(look.where, bool(broken), scale)
        if self.watches.scale.skipped == 4:
            found = self._examine(trainer, module, "gradient is not finite", broken)
            if found is not None and "op" in found.evidence:
                self.emit(trainer, found)
        if collapse is not None:
            self.nonfinite.pending = collapse
        return collapse is not None

    def _examine(self, trainer: Trainer, module: LightningModule, seen: str, broken: list[str]) -> Finding | None:
        step_stats, hooks = self._step_stats, self._module_hooks

        def instead(found: Finding) -> Finding:
            return self.watches.loops.authors.instead(found, module)

        return self.nonfinite.examine(self, trainer, module, seen, broken, step_stats, hooks, instead)
