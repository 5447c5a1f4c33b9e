"""Learning-rate schedulers that nobody steps."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from torch.optim.lr_scheduler import LRScheduler

from lightning_debugkit.core.compat import overrides
from lightning_debugkit.core.finding import Finding, Severity, Where
from lightning_debugkit.core.rule import Rule

if TYPE_CHECKING:
    from lightning.pytorch import LightningModule, Trainer

UNSTEPPED = Rule(
    "scheduler-never-stepped",
    Severity.WARNING,
    "{name} was never stepped in {steps} steps: the learning rate stays at {rate:.3g}{why}",
    "{remedy}",
    section="learning-rate",
)

_STEPS = 10  # of an optimizer, before anything is said of its scheduler
_MANUAL = (
    "Under manual optimization call self.lr_schedulers().step() in training_step, or in on_train_epoch_end where it "
    "goes by epochs."
)
_AUTOMATIC = "Call scheduler.step() in your lr_scheduler_step, or leave that hook to Lightning."


class Unstepped:
    """Compare each scheduler's count of calls with that of the fit's begin."""

    def __init__(self) -> None:
        self._counts: dict[int, Any] = {}
        self._begun = 0
        self._epoch = 0

    def begin(self, trainer: Trainer) -> None:
        """Take the counts."""
        self._begun, self._epoch = trainer.global_step, trainer.current_epoch
        self._counts = {id(s): _state(s) for s in _schedulers(trainer)}

    def silent(self, trainer: Trainer, module: LightningModule, epochs: int) -> list[Any]:
        """Return the schedulers that have not moved though they should have.

        Args:
            trainer: The Trainer.
            module: The user's module.
            epochs: Epochs that are over.
        """
        if trainer.global_step - self._begun < _STEPS:
            return []
        # Lightning itself steps what is due, unless the hook that does is the user's.
        if module.automatic_optimization and not overrides(module, "lr_scheduler_step"):
            return []
        found = []
        for config in trainer.lr_scheduler_configs:
            scheduler: Any = config.scheduler
            # Of one that goes by epochs, or by what validation says, the first epoch tells nothing.
            patience = 1 if config.interval == "step" and not config.reduce_on_plateau else 2
            if epochs < patience or (state := _state(scheduler)) is None or self._counts.get(id(scheduler)) != state:
                continue
            if isinstance(scheduler, LRScheduler) or _would_move(scheduler):
                found.append(scheduler)
        return found

    def judge(
        self, where: Where, trainer: Trainer, module: LightningModule, epochs: int | None = None
    ) -> Iterator[Finding]:
        """Yield one finding for all that stand still; ``epochs`` count as over, by default those of this fit."""
        over = trainer.current_epoch - self._epoch if epochs is None else epochs
        still = self.silent(trainer, module, over)
        if not still:
            return
        manual = not module.automatic_optimization
        yield UNSTEPPED.found(
            where,
            name=" and ".join(dict.fromkeys(type(s).__name__ for s in still)),
            steps=trainer.global_step - self._begun,
            rate=max(float(group["lr"]) for group in still[0].optimizer.param_groups),
            why=", as under manual optimization Lightning calls no scheduler" if manual else "",
            remedy=_MANUAL if manual else _AUTOMATIC,
        )


def _schedulers(trainer: Trainer) -> list[Any]:
    return [config.scheduler for config in trainer.lr_scheduler_configs]


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
