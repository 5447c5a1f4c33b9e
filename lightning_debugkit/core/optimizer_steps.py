"""The steps of a fit's optimizers, those included of which Lightning does not tell its callbacks beforehand.

Its hook before a step hangs on the closure that the step is given. Under manual optimization that closure does nothing
else, and an optimizer of one's own may well leave it out.
"""

from __future__ import annotations

import dis
import inspect
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from torch.optim import Optimizer

from lightning_debugkit.core.compat import LightningModule, Trainer, unseen
from lightning_debugkit.core.optimizers import raw

if TYPE_CHECKING:
    from lightning_debugkit.core.callback import DebugCallback


class OptimizerSteps:
    """Calls ``after`` behind each step, and the callback's ``on_before_optimizer_step`` before those not announced.

    These are known from the first on where the code of ``step`` shows that it does not read its closure.
    """

    def __init__(
        self, callback: DebugCallback, trainer: Trainer, module: LightningModule, after: Callable[[Optimizer], None]
    ) -> None:
        self._look = partial(callback.on_before_optimizer_step, trainer, module)
        self._announced: set[int] = set()
        manual = not module.automatic_optimization
        self._ignoring = {id(each) for each in trainer.optimizers if manual and _never_reads_closure(each)}
        self._handles: list[Any] = []

        @unseen
        def stepped(optimizer: Optimizer, *_: Any) -> None:
            try:
                after(optimizer)
            except Exception as error:
                callback.trouble(trainer, "optimizer step", error)

        for optimizer in trainer.optimizers:
            self._handles.append(optimizer.register_step_post_hook(stepped))
            if manual:
                self._handles.append(optimizer.register_step_pre_hook(self._before))
                self._handles.append(optimizer.register_step_post_hook(self._after))

    def announced(self, optimizer: Optimizer) -> None:
        """Take note that Lightning announces the next step."""
        self._announced.add(id(raw(optimizer)))

    def remove(self) -> None:
        """Hear no more."""
        for handle in self._handles:
            handle.remove()

    @unseen
    def _before(self, optimizer: Optimizer, args: Any, kwargs: dict[str, Any]) -> None:
        if id(optimizer) in self._ignoring and id(optimizer) not in self._announced and "closure" in kwargs:
            self._look(optimizer)

    def _after(self, optimizer: Optimizer, args: Any, kwargs: dict[str, Any]) -> None:
        if id(optimizer) not in self._announced and "closure" in kwargs:
            self._ignoring.add(id(optimizer))
        self._announced.discard(id(optimizer))


def _never_reads_closure(optimizer: Optimizer) -> bool:
    """Tell whether the code of ``step`` shows that it does not read its argument ``closure``."""
    code = getattr(inspect.unwrap(type(optimizer).step), "__code__", None)
    if code is None or "closure" not in code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]:
        return False
    read = (one.argval for one in dis.get_instructions(code) if one.opname.startswith("LOAD_"))
    return not any("closure" in (name if isinstance(name, tuple) else (name,)) for name in read)
