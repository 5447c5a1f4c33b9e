"""Fits in processes that Lightning starts for them alone, as under ``ddp_spawn`` and ``ddp_notebook``.

No callback hears of an exception there: Lightning 2.5 to 2.6 tells those of the process that started the others, which
have seen nothing of the fit.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from lightning_debugkit.core.compat import RUN_STAGE, Trainer
from lightning_debugkit.core.patching import around_next


def tell_exceptions(trainer: Trainer, tell: Callable[[BaseException], Any]) -> None:
    """Call ``tell`` with what ends the fit that is about to start, if anything does."""

    @contextlib.contextmanager
    def told() -> Iterator[None]:
        try:
            yield
        except BaseException as error:
            tell(error)
            raise

    around_next(trainer, RUN_STAGE, told)
