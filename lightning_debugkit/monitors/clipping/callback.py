"""Tell what gradient clipping does to a training: how often it cuts, how much, and whether at the right moment."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from itertools import groupby
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from torch import Tensor
from torch.optim import Optimizer

from lightning_debugkit.core.arguments import Needs
from lightning_debugkit.core.callback import DebugCallback
from lightning_debugkit.core.finding import Finding
from lightning_debugkit.core.optimizer_steps import OptimizerSteps
from lightning_debugkit.core.optimizers import is_adaptive, raw, scaler_of
from lightning_debugkit.core.run import current_run
from lightning_debugkit.core.sampling import Thinning
from lightning_debugkit.core.sharding import holds_whole_model
from lightning_debugkit.monitors.clipping.auto_threshold import AutoThreshold, obstacle
from lightning_debugkit.monitors.clipping.clip_stats import ClipStatsReader
from lightning_debugkit.monitors.clipping.clipped_step import (
    ClippedStep,
    PendingClippedStep,
    read_clipped_steps,
    tightest,
)
from lightning_debugkit.monitors.clipping.clipping_counts import ClippingCounts
from lightning_debugkit.monitors.clipping.clipping_order import is_scaled
from lightning_debugkit.monitors.clipping.clipping_rules import ClippingRules
from lightning_debugkit.monitors.clipping.overflow import Overflow

_TOGETHER = 50  # steps brought to the host in one copy
# Under automatic optimization these are for the sake of clippings: the Trainer calls them once one was heard, the last
# one also where steps are to be judged.
_OF_CLIPPING = ("on_before_backward", "on_after_backward", "on_train_batch_end")


class GradientClippingMonitor(DebugCallback):
    """Report gradient clipping that always, hardly ever or wrongly cuts, and training that should clip and does not.

    The norm before clipping is the one that the clipping itself computes: Lightning's, one of your own hooks, or a
    direct call of torch. Where a module clips by means of its own, norms are measured before and after on sampled
    steps; the report says which is which. Nothing is changed, unless ``auto_threshold`` is asked for.

    Args:
        every_n_steps: Distance of the steps on which layers are told apart, and norms measured where none is heard.
        percentile: Of the run's own gradient norms: suggested as threshold, and used by ``auto_threshold``.
        auto_threshold: Clip by that percentile of the norms seen so far instead of a constant, on Lightning's own
            path; ``Trainer(gradient_clip_val=...)`` holds until ten norms are known.
    """

    def __init__(self, every_n_steps: int = 10, percentile: float = 90.0, auto_threshold: bool = False) -> None:
        needs = Needs("GradientClippingMonitor")
        needs.whole("every_n_steps", every_n_steps, 1, "10 is a good start")
        if isinstance(percentile, bool) or not isinstance(percentile, int | float) or not 0 < percentile < 100:
            raise ValueError(
                f"GradientClippingMonitor needs 0 < percentile < 100, got {percentile!r}; 90 cuts the largest tenth."
            )
        needs.switch("auto_threshold", auto_threshold, "False is usual")
        self.every_n_steps = every_n_steps
        self.percentile = percentile
        self.auto_threshold = auto_threshold
        self._remembered: dict[str, Any] = {}
        self._reset()

    def _reset(self) -> None:
        self._probe: ClipStatsReader | None = None
        self._auto: AutoThreshold | None = None
        self._judges: list[ClippingRules] = []
        self._tallies: list[ClippingCounts] = []
        self._overflows: list[Overflow] = []
        self._drawn: list[Thinning] = []
        self._steps: OptimizerSteps | None = None

    def __getstate__(self) -> dict[str, Any]:
        # What listens to a fit in progress stays with it; what it has learned goes along.
        state = {**self.__dict__, "_remembered": self._memory()}
        lists: dict[str, Any] = {"_judges": [], "_tallies": [], "_overflows": [], "_drawn": []}
        return {**state, "_probe": None, "_auto": None, "_steps": None, **lists}

    def _memory(self) -> dict[str, Any]:
        if not self._judges:
            return self._remembered
        norms = [] if self._auto is None else [float(norm) for norm in self._auto.norms]
        return {"judges": [judge.state_dict() for judge in self._judges], "norms": norms}

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), **self._memory()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self._remembered = {key: value for key, value in state_dict.items() if key in ("judges", "norms")}

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        super().setup(trainer, pl_module, stage)
        if stage == "fit" and not self.idle:
            # Before anything is restored: a fit that resumes gets its memory back after this.
            self._leave(trainer)
            self._remembered = {}
            self._reset()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not holds_whole_model(trainer):
            why = f"{type(trainer.strategy).__name__} gives each process a part of the gradients, and clips in parts"
            self.write(trainer, "measure", name="clipping-unseen", value={"why": why})
            if self.auto_threshold:
                _clips_nothing(why)
            return
        remembered = self._remembered.get("judges", [])
        for index in range(len(trainer.optimizers)):
            judge = ClippingRules(self.percentile, is_auto=self.auto_threshold)
            if index < len(remembered):
                judge.load_state_dict(remembered[index])
            self._judges.append(judge)
            self._tallies.append(ClippingCounts())
            self._overflows.append(Overflow())
            self._drawn.append(Thinning())
        if self.auto_threshold:
            self._start_auto(trainer, pl_module)
        heard = partial(self._heard, trainer, pl_module)
        self._probe = ClipStatsReader(trainer, pl_module, self.every_n_steps, heard)
        if pl_module.automatic_optimization:
            self.rest(*_OF_CLIPPING)
        if self._probe.may_clip:
            self._steps = OptimizerSteps(self, trainer, pl_module, self._stepped)

    def _heard(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Hear all that there is to hear, now that a clipping was."""
        self.wake(*_OF_CLIPPING)
        if self._steps is None:
            self._steps = OptimizerSteps(self, trainer, pl_module, self._stepped)

    def _start_auto(self, trainer: Trainer, pl_module: LightningModule) -> None:
        in_the_way = obstacle(trainer, pl_module)
        if in_the_way:
            _clips_nothing(in_the_way)
            return
        self._auto = AutoThreshold(self.percentile, self._remembered.get("norms"))

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: Tensor) -> None:
        if self._probe is not None:
            self._probe.before_backward(loss)

    def on_after_backward(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._probe is not None:
            self._probe.after_backward()

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        if self._probe is None:
            return
        if self._steps is not None:
            self._steps.announced(optimizer)
        index = self._probe.optimizers.index(raw(optimizer))
        where = self.in_batch(trainer, self._probe.run)
        norm = self._probe.before_step(index, where, must_look=self._auto is not None)
        self._are_enough()
        if self._auto is not None and norm is not None:
            self._auto.next(trainer, float(norm))

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self._probe is not None:
            self._probe.batch_over()
            if len(self._probe.drafts) >= _TOGETHER and len(self._probe.read_drafts()) >= _TOGETHER:
                self._judge(trainer, self._probe.read_drafts())
                if pl_module.automatic_optimization and not self._probe.is_heard:
                    self.rest("on_train_batch_end")

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._probe is not None:
            self._probe.batch_over()
        self._judge(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._judge(trainer)
        for index, judge in enumerate(self._judges):
            self._tell_of(trainer, index, judge.conclude(is_adaptive=is_adaptive(trainer.optimizers[index])))
        self._sum_up(trainer)
        self._leave(trainer)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        try:
            self._judge(trainer)
            self._sum_up(trainer)
        finally:
            self._leave(trainer)
            super().on_exception(trainer, pl_module, exception)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._leave(trainer)

    def _leave(self, trainer: Trainer) -> None:
        """Leave torch, Trainer and optimizers as they were; may be called twice."""
        if self._probe is not None:
            self._probe.close()
            self._probe = None
        if self._steps is not None:
            self._steps.remove()
            self._steps = None
        if self._auto is not None:
            self._auto.restore(trainer)

    def _stepped(self, optimizer: Optimizer) -> None:
        if self._probe is not None:
            self._probe.step_over(self._probe.optimizers.index(optimizer))
            self._are_enough()

    def _are_enough(self) -> None:
        """See to it that steps are judged when there are enough of them."""
        if self._probe is not None and len(self._probe.drafts) >= _TOGETHER:
            self.wake("on_train_batch_end")

    def _judge(self, trainer: Trainer, drafts: list[PendingClippedStep] | None = None) -> None:
        """Read what has been gathered, and say what is wrong. The gradients of replicas are equal: one rank tells.

        Args:
            drafts: The first of what has been gathered; all of it by default.
        """
        probe = self._probe
        if probe is None:
            return
        if probe.error is not None:
            self.trouble(trainer, "clip_grad", probe.error)
            probe.error = None
        drafts = probe.drafts if drafts is None else drafts
        probe.drafts = probe.drafts[len(drafts) :]
        if not trainer.is_global_zero:
            return
        overflowed: list[PendingClippedStep] = []
        steps = tightest(read_clipped_steps(drafts, overflowed))
        self._tell_overflows(trainer, drafts, overflowed)
        self.emit_each(trainer, probe.order.early(self.where(trainer)))
        self.emit_each(trainer, probe.order.scaled(steps))
        for index, group in groupby(sorted(steps, key=lambda step: step.optimizer), key=lambda step: step.optimizer):
            mine = list(group)
            adaptive = is_adaptive(trainer.optimizers[index])
            sound = [step for step in mine if not is_scaled(step)]  # of the others all has been said
            self._tell_of(trainer, index, self._judges[index].take(sound, is_adaptive=adaptive))
            self._record(trainer, index, mine)

    def _tell_overflows(
        self, trainer: Trainer, drafts: list[PendingClippedStep], overflowed: list[PendingClippedStep]
    ) -> None:
        run, scaler = current_run(trainer), scaler_of(trainer)
        for index, overflow in enumerate(self._overflows):
            steps = len({draft.where.step for draft in drafts if draft.optimizer == index})
            infinite = [draft for draft in overflowed if draft.optimizer == index]
            wide = {} if run is None else run.wide_norms
            found = overflow.take(steps, infinite, trainer.optimizers[index], scaler, wide)
            self._tell_of(trainer, index, [] if found is None else [found])

    def _tell_of(self, trainer: Trainer, index: int, findings: Iterable[Finding]) -> None:
        """Tell what is said of one optimizer; where there are several, which."""
        name = _name(trainer, index)
        for finding in findings:
            message = f"{name}: {finding.message}" if len(trainer.optimizers) > 1 else finding.message
            named = replace(finding, message=message, evidence={**finding.evidence, "optimizer": name})
            self.emit(trainer, named, about=name)

    def _record(self, trainer: Trainer, index: int, steps: list[ClippedStep]) -> None:
        name = _name(trainer, index)
        for step in steps:
            self._tallies[index].add(step)
            if self._drawn[index].keeps(step.where.step):
                told = {"norm": step.norm, "after": step.after, "threshold": step.threshold, "by": step.by}
                self.measure(trainer, step.where, {"clipping": {"optimizer": name, **told, "exact": step.is_exact}})
        if self._drawn[index].stride == 1 or self._tallies[index].steps % (4 * _TOGETHER) < len(steps):
            self._sum_up(trainer)

    def _sum_up(self, trainer: Trainer) -> None:
        """Journal the counts so far: the last ones stand, also of a run that is killed."""
        if not trainer.is_global_zero:
            return
        for index, tally in enumerate(self._tallies):
            if tally.steps:
                value = {"optimizer": _name(trainer, index), **tally.told()}
                self.write(trainer, "measure", name="clipping-counts", value=value)


def _clips_nothing(why: str) -> None:
    warnings.warn(f"GradientClippingMonitor(auto_threshold=True) clips nothing here: {why}.", stacklevel=3)


def _name(trainer: Trainer, index: int) -> str:
    return type(trainer.optimizers[index]).__name__ + (f"-{index}" if index else "")
