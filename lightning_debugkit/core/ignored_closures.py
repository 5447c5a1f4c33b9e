"""Steps of optimizers that do not call the closure they are given: Lightning's hook before a step hangs on it.

Under manual optimization that closure does nothing else, and an optimizer of one's own may well leave it out.
"""

from __future__ import annotations

import dis
import inspect
from collections.abc import Callable, Iterable
from typing import Any

from torch.optim import Optimizer

from lightning_debugkit.core.compat import unseen


class IgnoredClosures:
    """Looks at the steps that Lightning does not announce, from the first on where the code of ``step`` shows it.

    Args:
        look: What is to be called before such a step, as ``on_before_optimizer_step`` is before the others.
    """

    def __init__(self, look: Callable[[Optimizer], None]) -> None:
        self._look = look
        self._ignoring: set[int] = set()
        self._announced: set[int] = set()

    def listen(self, optimizers: Iterable[Optimizer]) -> list[Any]:
        """Listen to steps; return the handles that end it."""
        handles: list[Any] = []
        for optimizer in optimizers:
            if _never_reads_closure(optimizer):
                self._ignoring.add(id(optimizer))
            handles.append(optimizer.register_step_pre_hook(self._before))
            handles.append(optimizer.register_step_post_hook(self._after))
        return handles

    def announced(self, optimizer: Optimizer) -> None:
        """Take note that Lightning announces the next step."""
        self._announced.add(id(optimizer))

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
