"""All watches of the detector, each called at its moment."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from lightning_debugkit.core.compat import LightningModule, Trainer
from lightning_debugkit.core.finding import Finding, Where
from lightning_debugkit.core.optimizer_steps import steps_taken
from lightning_debugkit.core.optimizers import averages_in, has_entries, held_by
from lightning_debugkit.core.sampling import SampledSteps
from lightning_debugkit.core.sharding import holds_whole_model, is_sharded, named_shards, unwrapped_name
from lightning_debugkit.data.batches import tensors
from lightning_debugkit.monitors.gradients.missing_gradients import GradientFlow
from lightning_debugkit.monitors.gradients.vanishing_exploding import DIVERGING, GradientTrends
from lightning_debugkit.monitors.gradients.zero_grad import ZeroGrad
from lightning_debugkit.monitors.loop_monitor import LoopMonitor, Wrote, is_limited, zeroed
from lightning_debugkit.monitors.observed_step import StepStats
from lightning_debugkit.monitors.optimization import group_rates
from lightning_debugkit.monitors.optimization.crawling_weights import CrawlingWeights
from lightning_debugkit.monitors.optimization.learning_rate_schedule import LearningRateSchedule, SchedulePlan, plans_of
from lightning_debugkit.monitors.optimization.loss_scale import LossScale
from lightning_debugkit.monitors.optimization.never_stepped import never_stepped, not_updated, waiting
from lightning_debugkit.monitors.optimization.update_ratio import UpdateRatio
from lightning_debugkit.monitors.order_and_saves import OrderAndSaves
from lightning_debugkit.monitors.parameters import replicas
from lightning_debugkit.monitors.parameters.broken_at_start import broken_weights, versions_of
from lightning_debugkit.monitors.parameters.ema_networks import EmaNetworks
from lightning_debugkit.monitors.parameters.frozen_modules import FrozenModules
from lightning_debugkit.monitors.parameters.parameter_registration import (
    fed_but_not_held,
    not_in_optimizer,
    unregistered,
)
from lightning_debugkit.monitors.parameters.thawed_backbone import finetuning
from lightning_debugkit.monitors.parameters.train_eval_mode import TrainEvalMode
from lightning_debugkit.monitors.parameters.weight_overwrite import WeightOverwrite
from lightning_debugkit.monitors.parameters.weights_not_loaded import Loads
from lightning_debugkit.monitors.step_stats import StepStatsReader
from lightning_debugkit.replay.autograd_graph import reached
from lightning_debugkit.replay.step_replay import audit
from lightning_debugkit.stats.tensor_norms import versions

_WINDOWLESS = 4  # backward passes without a step, as of several losses, that are nothing to look at
_GRAPHS = 50  # steps of an old run behind which the first graph of an epoch is read again: an epoch may be one step
_COMPARED = (1, 10, 100, 1000, 10_000)  # steps after which replicas are compared, beside the ends of epochs


class Monitor:
    """Call each watch when there is something for it to see.

    Args:
        wiring: Watch the wiring of parameters, not only numbers.
    """

    def __init__(self, wiring: bool) -> None:
        self.wiring = wiring
        self.loaded = WeightOverwrite()
        self.loads = Loads(listen=wiring)  # also before a fit
        self._renew()

    def _renew(self) -> None:
        self.trends = GradientTrends()
        self.followers = EmaNetworks()
        self.scale = LossScale()
        self.flow = GradientFlow()
        self.schedule = LearningRateSchedule()
        self.zero_grad = ZeroGrad()
        self.update_ratio = UpdateRatio()
        self.crawling = CrawlingWeights()
        self.frozen = FrozenModules()
        self.modes = TrainEvalMode()
        self.saves = OrderAndSaves(self.wiring)
        self.loops = LoopMonitor(self.wiring, self.loads)
        self._plans: list[SchedulePlan] = []
        self._total = math.inf
        self._looks: dict[int, StepStats] = {}  # by optimizer, as the next
        self._passes: dict[int, int] = {}
        self._stepped: set[int] = set()
        self._graphs = 2  # backward passes whose graph is still to be read
        self._rereads = SampledSteps(_GRAPHS)
        self._unstepped = 0
        self._versions: tuple[int, ...] = ()
        self._suspects: list[tuple[int, Finding, dict[str, int]]] = []
        self._compared = -1
        self._batch_began = True
        self._begun = False

    def state_dict(self) -> dict[str, Any]:
        orders, loops = self.saves.state_dict(), self.loops.state_dict()
        return {"trends": self.trends.state_dict(), "orders": orders, "work": loops}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if "trends" in state:
            self.trends.load_state_dict(state["trends"])
        self.saves.load_state_dict(state.get("orders", {}))
        self.loops.load_state_dict(state.get("work", {}))

    def setup(self, module: LightningModule) -> None:
        """Begin a fit, before weights are restored."""
        self._renew()
        if self.wiring:
            self.loaded.begin(module)
            self.loads.listen(has_begun=True)

    def start(self, trainer: Trainer, module: LightningModule, where: Where) -> Iterator[Finding]:
        """Yield what is wrong before the first step."""
        total = float(trainer.estimated_stepping_batches)
        self._total = total if total > 0 else math.inf  # Lightning says -1 for data of unknown length
        self.loops.start(trainer, module)
        if not self.wiring:
            return
        self.zero_grad.expect(self._total)
        self._plans = [] if is_limited(trainer) else plans_of(trainer, self._total)
        yield from self.schedule.planned(where, self._plans)
        self.frozen.begin(module)
        self.modes.begin(module)

    def before_batch(self, trainer: Trainer, module: LightningModule, where: Where, batch: Any) -> Iterator[Finding]:
        """Yield what a batch that comes tells of the validation before it, and the first one of what it begins with."""
        if self.loops.validated.is_doubtful:
            yield from self.loops.validated.trained(where, trainer, module)
        if not self._begun:
            yield from self.first_batch(trainer, module, where)
        if self.wiring:
            yield from self.loops.before_batch(trainer, module, where, batch)

    def first_batch(self, trainer: Trainer, module: LightningModule, where: Where) -> Iterator[Finding]:
        """Yield what is wrong with the weights that training starts from, now that all hooks have had their turn."""
        self._begun = True
        self.followers.begin(module, held_by(trainer.optimizers))
        yield from self.loops.first_batch(trainer, module, where)
        yield from broken_weights(where, module)
        if self.wiring:
            yield from self.loaded.judge(where, module)

    def new_epoch(self, trainer: Trainer, module: LightningModule, where: Where) -> Iterator[Finding]:
        """Read the next graph again, as parameters may have been frozen; yield what the epoch before did not do."""
        if self._rereads.takes(where.step):
            self._graphs = max(self._graphs, 1)
        yield from self.loops.new_epoch(trainer, module, where)

    def before_backward(
        self, trainer: Trainer, module: LightningModule, loss: Tensor, where: Where, step_stats: StepStatsReader
    ) -> Iterator[Finding]:
        if not self.wiring:
            return
        doubles = self.loops.doubles
        yield from doubles.look(trainer, where) if doubles.counts else ()
        self.zero_grad.before_backward(step_stats.fit.optimizers, self._batch_began, step_stats.later)
        self._batch_began = False
        yield from self.modes.judge(where, module, self._learns(trainer)) if self.modes.layers else ()
        if self._graphs > 0 and loss.requires_grad and step_stats.fit.holds_whole_model:
            self._graphs -= 1
            leaf = reached(loss)
            own = {id(p) for p in module.parameters()}
            # Other leaves, as inputs whose derivatives the loss is of, need no line.
            strange = any(identity not in own and isinstance(one, nn.Parameter) for identity, one in leaf.items())
            batch = step_stats.current
            wiring = audit(trainer, module, batch.batch, batch.batch_idx, batch.random, []) if strange else None
            given = list(tensors(batch.batch))
            if wiring is not None:
                # What the step builds anew is another tensor in each run: the second one knows its line.
                kept = {key: one for key, one in leaf.items() if key in own or not wiring.reached}
                leaf = {**kept, **wiring.reached}
            yield from unregistered(
                where, module, given, leaf, wiring.first_use if wiring else {}, held_by(trainer.optimizers)
            )
            if held_by(trainer.optimizers):
                suspects = not_in_optimizer(where, module, trainer.optimizers, leaf, finetuning(trainer))
                self._suspect(trainer, module, suspects)

    def _learns(self, trainer: Trainer) -> Callable[[str, Tensor], bool]:
        """Return what tells whether a parameter is trained: an optimizer holds it, and it has had a gradient."""
        held: set[int] | None = None  # asked for by the few steps in which something does not train

        def learns(name: str, parameter: Tensor) -> bool:
            nonlocal held
            held = held_by(trainer.optimizers) if held is None else held
            if not held or not holds_whole_model(trainer):
                return parameter.requires_grad
            return parameter.requires_grad and id(parameter) in held and unwrapped_name(name) in self.flow.fed

        return learns

    def _suspect(self, trainer: Trainer, module: LightningModule, suspects: Iterable[Finding]) -> None:
        """Judge when some steps have passed: code of the user's own may move what no optimizer holds."""
        for suspect in suspects:
            versions = versions_of(module, suspect.evidence["parameters"])
            self._suspects.append((steps_taken(trainer) + 3, suspect, versions))

    def after_backward(self, module: LightningModule, step_stats: StepStatsReader) -> None:
        # A backward that no step follows is usual within a window: only behind it is it worth a look at all weights.
        if self._unstepped == max(_WINDOWLESS, step_stats.fit.window):
            self._versions = versions(list(module.parameters()))
        self._unstepped += 1
        for watch in (self.zero_grad, self.crawling) if self.wiring else ():
            watch.after_backward(step_stats.fit.optimizers)

    def before_step(
        self, trainer: Trainer, module: LightningModule, look: StepStats, step_stats: StepStatsReader
    ) -> Iterator[Finding]:
        """Yield what a sound look at an optimizer step tells."""
        self._unstepped = 0
        fit, key = step_stats.fit, id(look.optimizer)
        last = self._looks.get(key)
        # It asks for gradients again within one step, as LBFGS does.
        closure_again = last is not None and last.where == look.where
        alone = len(look.run_rates) == 1
        several = not alone or step_stats.backwards > fit.window
        if closure_again:
            self.update_ratio.asked_again(look.optimizer)
        else:
            for finding in () if several else self.trends.loss(look):
                is_doubted = finding.rule == DIVERGING.name
                told = self.followers.doubt(finding, module, held_by(trainer.optimizers)) if is_doubted else finding
                yield from [] if told is None else [told]
            yield from self.trends.gradients(look)
        if not self.wiring or closure_again:
            return
        if look.norm == 0 and (zeroed(trainer) or self.zero_grad.multiplied_by_zero(look)):
            return  # what clipping has turned to zeros says nothing of the wiring
        yield from self.zero_grad.before_step(look, fit.is_automatic, alone, not fit.holds_whole_model)
        if self._graphs > 0 and fit.is_sharded:
            self._graphs -= 1
            suspect = fed_but_not_held(look.where, named_shards(module), trainer.optimizers)
            self._suspect(trainer, module, [suspect] if suspect else [])

        def replayed() -> Any:
            wanted, batch = [p for p in look.parameters if p.requires_grad], step_stats.current
            of = step_stats.passes_of_step
            return audit(trainer, module, batch.batch, batch.batch_idx, batch.random, wanted, of)

        # One backward may feed several optimizers: each is asked for those since its own last step.
        if step_stats.passes != self._passes.get(key, 0):
            self._passes[key] = step_stats.passes
            yield from self.flow.judge(look, replayed, has_backward=bool(step_stats.passes_of_step))
        yield from self.update_ratio.before_step(look)
        yield from group_rates.judge(self.update_ratio, look)
        yield from self.loops.before_step(look, module, step_stats)
        known = [rate for rates in look.run_rates for rate in rates if math.isfinite(rate)] if self._plans else ()
        yield from self.schedule.judge(look.where, max(known), self._total, self._plans) if known else ()
        self._looks[key] = look

    def after_step(self, trainer: Trainer, module: LightningModule, optimizer: Optimizer) -> Iterator[Finding]:
        """Yield what an optimizer did; not called for a step that a scaler skips."""
        self._stepped.add(id(optimizer))
        if self.wiring:
            yield from self.zero_grad.after_step(optimizer, look := self._looks.get(id(optimizer)))
            if look is not None:
                if self.zero_grad.starves(optimizer):
                    self.update_ratio.starved.update(look.names)
                self.trends.stepped(look)
                yield from self.update_ratio.after_step(optimizer, look)
                yield from self._crawling(trainer, module, look, self._total)

    def _crawling(
        self, trainer: Trainer, module: LightningModule, look: StepStats, total: float, is_over: bool = False
    ) -> Iterator[Finding]:
        if found := self.crawling.judge(self.update_ratio, look, total, self.trends.has_fallen, is_over):
            yield from self.loops.crawling(trainer, module, found)

    def after_batch(
        self, trainer: Trainer, module: LightningModule, where: Where, step_stats: StepStatsReader, wrote: Wrote
    ) -> Iterator[Finding]:
        self._batch_began = True
        yield from self.loops.after_batch(trainer, module, where, step_stats, wrote)
        if self.followers.waiting is not None and (told := self.followers.settle(where.step)) is not None:
            yield told
        if not self.wiring:
            return
        if step_stats.fit.is_automatic and self._unstepped == max(20, 4 * step_stats.fit.window):
            yield from never_stepped(where, module, self._unstepped, self._versions)
        due = [item for item in self._suspects if item[0] <= where.step] if self._suspects else ()
        for item in due:
            self._suspects.remove(item)
            if versions_of(module, list(item[2])) == item[2]:
                yield item[1]
        if where.step == 2:
            yield from self.frozen.judge(where)
        if where.step in _COMPARED:
            yield from self._compare(trainer, module, where)

    def end_epoch(self, trainer: Trainer, module: LightningModule, where: Where) -> Iterator[Finding]:
        yield from self.saves.end_epoch(trainer, where)
        yield from self.loops.end_epoch(trainer, module, where)
        if self.wiring:
            yield from self.frozen.judge(where)
            # In manual optimization, only the user knows how many batches a step takes: wait for an epoch.
            if not module.automatic_optimization and self._unstepped >= max(20, float(trainer.num_training_batches)):
                yield from never_stepped(where, module, self._unstepped, self._versions)
            yield from self._compare(trainer, module, where)

    def conclude(self, trainer: Trainer, module: LightningModule, where: Where) -> Iterator[Finding]:
        """Yield what can only be said when the run is over."""
        if (told := self.followers.settle()) is not None:
            yield told
        yield from self.loops.conclude(trainer, module, where)
        if not self.wiring:
            return
        yield from self.saves.conclude(trainer, where)
        self.loaded.end(module)
        yield from self.zero_grad.conclude(self._looks.values())
        if trainer.interrupted:
            return
        yield from self.update_ratio.conclude(self._looks.values())
        if self._total == math.inf and len(self._looks) == 1:  # only now is it known how many steps there are
            (look,) = self._looks.values()
            yield from self._crawling(trainer, module, look, steps_taken(trainer), is_over=True)
        idle = waiting(trainer, module, self._stepped, self.flow.looks)
        trainable = [name for name in self._trainable(trainer, module) if name not in idle]
        yield from self.flow.conclude(where, module, trainable) if not self.zero_grad.is_told else ()
        if idle:
            yield not_updated(where, idle, self.flow.looks, ": their optimizer was never stepped")
        # A run cut short, by early stopping or for a trial, says nothing about its schedule.
        if steps_taken(trainer) >= 0.95 * self._total and not is_limited(trainer):
            yield from self.schedule.conclude(where, self._plans, steps_taken(trainer))

    def release(self) -> None:
        """Let go of the model."""
        self.loaded.stop()
        self.followers.stop()
        self.loops.release()
        self._looks = {}
        self.update_ratio = UpdateRatio()
        self.frozen = FrozenModules()
        self.modes = TrainEvalMode()

    def _trainable(self, trainer: Trainer, module: LightningModule) -> list[str]:
        """Return the trainable parameters that optimizers hold."""
        if holds_whole_model(trainer):
            held = held_by(trainer.optimizers) - averages_in(module)
            named = module.named_parameters()
            return [name for name, p in named if p.requires_grad and p.is_leaf and id(p) in held and has_entries(p)]
        # After a validation a module may hold whole parameters in place of the shards that optimizers know.
        looks = [zip(look.names, look.parameters, strict=True) for look in self._looks.values()]
        return [name for rows in looks for name, p in rows if p.requires_grad] if is_sharded(trainer) else []

    def _compare(self, trainer: Trainer, module: LightningModule, where: Where) -> Iterator[Finding]:
        if trainer.world_size > 1 and holds_whole_model(trainer) and self._compared != where.step:
            self._compared = where.step
            found = replicas.compare_replicas(where, module, trainer.world_size)
            if found is not None and trainer.is_global_zero:
                yield found
