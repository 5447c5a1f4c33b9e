"""The steps of a fit's optimizers, those included of which Lightning does not tell its callbacks beforehand.

Its hook before a step hangs on the closure that its own class around the optimizer gives to it. Under manual
optimization that closure does nothing else, and an optimizer of one's own may well leave it out; and a program may step
torch's optimizer past that class: then Lightning does not even count the step.
"""

from __future__ import annotations

import dis
import inspect
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar
from weakref import WeakKeyDictionary

from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from lightning_debugkit.core.compat import LightningModule, Trainer, is_in_counted_step, unseen
from lightning_debugkit.core.optimizers import raw

if TYPE_CHECKING:
    from lightning_debugkit.core.callback import DebugCallback

_KEY = "debugkit_uncounted_steps"  # in a checkpoint
_uncounted: WeakKeyDictionary[Trainer, int] = WeakKeyDictionary()  # steps that Lightning has not counted


def steps_taken(trainer: Trainer) -> int:
    """Return the optimizer steps taken: Lightning's ``global_step``, and those that went past it."""
    return trainer.global_step + uncounted_steps(trainer)


def uncounted_steps(trainer: Trainer) -> int:
    """Return the optimizer steps that Lightning has not counted, as far as anybody of the kit has heard them."""
    return _uncounted.get(trainer, 0) if _uncounted else 0


def save_uncounted(trainer: Trainer, checkpoint: dict[str, Any]) -> None:
    """Put the steps that Lightning has not counted into a checkpoint, if there are any."""
    if steps := uncounted_steps(trainer):
        checkpoint[_KEY] = steps


def load_uncounted(trainer: Trainer, checkpoint: dict[str, Any]) -> None:
    """Count on from a checkpoint that a fit goes on from, whatever this Trainer has counted before."""
    if steps := checkpoint.get(_KEY, 0):
        _uncounted[trainer] = int(steps)
    else:
        _uncounted.pop(trainer, None)


def steps_in(checkpoint: dict[str, Any]) -> int:
    """Return the optimizer steps that a checkpoint was saved after, as `steps_taken` counts them."""
    return int(checkpoint.get("global_step", 0)) + int(checkpoint.get(_KEY, 0))


class OptimizerSteps:
    """Calls ``after`` behind each step, and the callback's ``on_before_optimizer_step`` before those not announced.

    Of those that Lightning counts, these are known from the first on where the code of ``step`` shows that it does not
    read its closure. Of those that it does not count, a step that is given a closure is not looked at before: its
    gradients are still to come.

    Args:
        after: Called with the optimizer; without it, steps are counted and no more.
        own: Under manual optimization, hear optimizers too that the Trainer knows nothing of: those of a program that
            keeps them to itself, or inside of one that is stepped by methods of its own.
    """

    _counting: ClassVar[WeakKeyDictionary[Trainer, OptimizerSteps]] = WeakKeyDictionary()  # the last of a Trainer's

    def __init__(
        self,
        callback: DebugCallback,
        trainer: Trainer,
        module: LightningModule,
        after: Callable[[Optimizer], None] | None = None,
        own: bool = False,
    ) -> None:
        self._look = None if after is None else partial(callback.on_before_optimizer_step, trainer, module)
        self._trainer = trainer
        self._announced: set[int] = set()
        manual = self._is_manual = not module.automatic_optimization
        self._ignoring = {id(each) for each in trainer.optimizers if manual and _never_reads_closure(each)}
        self._handles: list[Any] = []
        self._running: int | None = None  # the optimizer that a step runs of which Lightning does not count

        behind = [] if after is None else [_safely(after, lambda e: callback.trouble(trainer, "optimizer step", e))]
        behind += [self._after] if manual else []
        for optimizer in trainer.optimizers:
            self._handles += [optimizer.register_step_post_hook(hook) for hook in behind]
            if manual:
                self._handles.append(optimizer.register_step_pre_hook(self._before))
        if manual and own:
            self._counting[trainer] = self
            self._hear_others(module, behind)

    def _hear_others(self, module: LightningModule, behind: Iterable[Callable[..., None]]) -> None:
        """Hear optimizers that are not the Trainer's, by the weights of the module that they hold."""
        weights = {id(parameter) for parameter in module.parameters()}
        known = set(map(id, self._trainer.optimizers))

        def of_others(hook: Callable[..., None]) -> Callable[..., None]:
            def heard(optimizer: Optimizer, *given: Any) -> None:
                # Within another's step it is a part of that.
                if id(optimizer) in known or self._running not in (None, id(optimizer)):
                    return
                held = (id(p) for group in optimizer.param_groups for p in group["params"])
                if not is_in_counted_step(self._trainer) and any(each in weights for each in held):
                    hook(optimizer, *given)

            return heard

        self._handles.append(register_optimizer_step_pre_hook(of_others(self._before)))
        for hook in behind:
            self._handles.append(register_optimizer_step_post_hook(of_others(hook)))

    def announced(self, optimizer: Optimizer) -> None:
        """Take note that Lightning announces the next step; under automatic optimization it announces each."""
        if self._is_manual:
            self._announced.add(id(raw(optimizer)))

    def remove(self) -> None:
        """Hear no more."""
        for handle in self._handles:
            handle.remove()
        if self._counting.get(self._trainer) is self:
            del self._counting[self._trainer]

    @unseen
    def _before(self, optimizer: Optimizer, args: Any, kwargs: dict[str, Any]) -> None:
        if id(optimizer) in self._announced:
            return
        if not is_in_counted_step(self._trainer):
            if self._look is not None and _closure(optimizer, args, kwargs) is None:
                self._look(optimizer)
            self._running = id(optimizer)
        elif self._look is not None and id(optimizer) in self._ignoring and "closure" in kwargs:
            self._look(optimizer)

    def _after(self, optimizer: Optimizer, args: Any, kwargs: dict[str, Any]) -> None:
        if not is_in_counted_step(self._trainer):
            self._running = None
            if self._counting.get(self._trainer) is self:
                _uncounted[self._trainer] = uncounted_steps(self._trainer) + 1
        elif id(optimizer) not in self._announced and "closure" in kwargs:
            self._ignoring.add(id(optimizer))
        self._announced.discard(id(optimizer))


def _safely(after: Callable[[Optimizer], None], tell: Callable[[Exception], None]) -> Callable[..., None]:
    """Return a hook that calls ``after`` and lets nothing of it into the step."""

    @unseen
    def stepped(optimizer: Optimizer, *_: Any) -> None:
        try:
            after(optimizer)
        except Exception as error:
            tell(error)

    return stepped


def _closure(optimizer: Optimizer, args: Any, kwargs: dict[str, Any]) -> Any:
    """Return the closure that ``step`` is given, ``None`` if it is given none."""
    return kwargs.get("closure", next((each for each in args if each is not optimizer), None))


def _never_reads_closure(optimizer: Optimizer) -> bool:
    """Tell whether the code of ``step`` shows that it does not read its argument ``closure``."""
    code = getattr(inspect.unwrap(type(optimizer).step), "__code__", None)
    if code is None or "closure" not in code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]:
        return False
    read = (one.argval for one in dis.get_instructions(code) if one.opname.startswith("LOAD_"))
    return not any("closure" in (name if isinstance(name, tuple) else (name,)) for name in read)
