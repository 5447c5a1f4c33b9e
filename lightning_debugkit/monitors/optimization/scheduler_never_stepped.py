"""Learning-rate schedulers that nobody steps."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

from torch.optim.lr_scheduler import LRScheduler

from lightning_debugkit.core.compat import LightningModule, Trainer, callbacks_of, overrides
from lightning_debugkit.core.finding import Finding, Severity, Where
from lightning_debugkit.core.optimizer_steps import steps_taken
from lightning_debugkit.core.optimizers import alive
from lightning_debugkit.core.rule import Rule
from lightning_debugkit.monitors.optimization.double_steps import is_due

UNSTEPPED = Rule(
    "scheduler-never-stepped",
    Severity.WARNING,
    "{name} {told}: the learning rate stays at {rate:.3g}{why}",
    "{remedy}",
    section="learning-rate",
)

_STEPS = 10  # of an optimizer, before anything is said of its scheduler
_MANUAL = (
    "Under manual optimization call self.lr_schedulers().step() in training_step, or in on_train_epoch_end where it "
    "goes by epochs."
)
_FREQUENCY = "Lower the frequency beside the scheduler in configure_optimizers, or let the run be longer."
_DROPPED = (
    "Return {'optimizer': optimizer, 'lr_scheduler': scheduler} from configure_optimizers: under another key it is "
    "lost."
)
_MARK = "_wrapped_by_lr_sched"  # left by schedulers of torch on the step of their optimizer; seen in torch 2.6 to 2.13
_AUTOMATIC = "Call scheduler.step() in your lr_scheduler_step, or leave that hook to Lightning."


class Unstepped:
    """Compare each scheduler's count of calls with that of the fit's begin."""

    def __init__(self) -> None:
        self._counts: dict[int, Any] = {}
        self._begun = 0
        self._epoch = 0

    def begin(self, trainer: Trainer) -> None:
        """Take the counts."""
        self._begun, self._epoch = steps_taken(trainer), trainer.current_epoch
        self._counts = {id(config.scheduler): _state(config.scheduler) for config in trainer.lr_scheduler_configs}

    def silent(self, trainer: Trainer, module: LightningModule, epochs: int, is_over: bool = False) -> list[Any]:
        """Return the schedulers that have not moved though they should have.

        Args:
            is_over: So is the run: what Lightning was not due to step in it, nobody steps any more.
        """
        if steps_taken(trainer) - self._begun < _STEPS:
            return []
        # Lightning itself steps what is due, unless the hook that does is the user's.
        is_lightnings = module.automatic_optimization and not overrides(module, "lr_scheduler_step")
        found = []
        for config in trainer.lr_scheduler_configs:
            if is_lightnings and not (is_over and not is_due(trainer, config)):
                continue
            scheduler: Any = config.scheduler
            # Of one that goes by epochs, or by what validation says, the first epoch tells nothing.
            patience = 1 if config.interval == "step" and not config.reduce_on_plateau else 2
            if epochs < patience or (state := _state(scheduler)) is None or self._counts.get(id(scheduler)) != state:
                continue
            if isinstance(scheduler, LRScheduler) or _would_move(scheduler):
                found.append(scheduler)
        return found

    def judge(
        self, where: Where, trainer: Trainer, module: LightningModule, epochs: int | None = None, is_over: bool = False
    ) -> Iterator[Finding]:
        """Yield one finding for all that stand still; ``epochs`` count as over, by default those of this fit."""
        over = trainer.current_epoch - self._epoch if epochs is None else epochs
        still = self.silent(trainer, module, over, is_over)
        if not still:
            return
        why, remedy = _why(module)
        yield UNSTEPPED.found(
            where,
            name=" and ".join(dict.fromkeys(type(s).__name__ for s in still)),
            told=f"was never stepped in {steps_taken(trainer) - self._begun} steps",
            rate=max(float(group["lr"]) for group in still[0].optimizer.param_groups),
            why=why,
            remedy=remedy,
        )

    def first_batch(self, where: Where, trainer: Trainer) -> Iterator[Finding]:
        """Yield an optimizer that a scheduler was built on which Lightning was not given, and which is gone."""
        if trainer.lr_scheduler_configs or any(_searches_rates(callback) for callback in callbacks_of(trainer)):
            return
        marked = [optimizer for optimizer in trainer.optimizers if hasattr(optimizer.step, _MARK)]
        scheduled = {id(scheduler.optimizer) for scheduler in alive(LRScheduler)} if marked else set()
        for optimizer in marked:
            if id(optimizer) not in scheduled:
                yield UNSTEPPED.found(
                    where,
                    name=f"a scheduler built on {type(optimizer).__name__}",
                    told="is never stepped",
                    rate=_rates(optimizer)[0],
                    why=", as configure_optimizers does not return it",
                    remedy=_DROPPED,
                )


def _searches_rates(callback: Any) -> bool:
    """Tell whether a callback is Lightning's search for a rate, which leaves its own mark on the optimizer."""
    return any(kind.__name__ == "LearningRateFinder" for kind in type(callback).__mro__)


def _why(module: LightningModule) -> tuple[str, str]:
    """Return why nobody steps, and what to do."""
    if not module.automatic_optimization:
        return ", as under manual optimization Lightning calls no scheduler", _MANUAL
    if overrides(module, "lr_scheduler_step"):
        return "", _AUTOMATIC
    return ", as its frequency is beyond the run", _FREQUENCY


def _state(scheduler: Any) -> Any:
    """Return what a step changes; ``None`` for a class of the user's own whose state is not plain."""
    if isinstance(scheduler, LRScheduler):
        return scheduler.last_epoch, _rates(scheduler.optimizer)
    own = {name: value for name, value in getattr(scheduler, "__dict__", {}).items() if name != "optimizer"}
    if not _is_plain(own) or not hasattr(getattr(scheduler, "optimizer", None), "param_groups"):
        return None
    return copy.deepcopy(own), _rates(scheduler.optimizer)


def _rates(optimizer: Any) -> tuple[float, ...]:
    return tuple(float(group["lr"]) for group in optimizer.param_groups)


def _is_plain(value: Any) -> bool:
    if isinstance(value, dict):
        return all(map(_is_plain, value.values()))
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, bool | int | float | str)


def _would_move(scheduler: Any) -> bool:
    """Tell whether a step changes anything of a scheduler that is no class of torch's: a copy of it is stepped.

    One that keeps the rate by design stands still however often it is stepped.
    """
    groups = [{name: value for name, value in g.items() if name != "params"} for g in scheduler.optimizer.param_groups]
    twin = copy.deepcopy(scheduler, {id(scheduler.optimizer): SimpleNamespace(param_groups=groups)})
    try:
        twin.step()
    except Exception:  # its step asks for something, or for more of an optimizer
        return False
    return bool(_state(twin) != _state(scheduler))
