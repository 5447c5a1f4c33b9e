"""Errors, the kit's and the user's: its own end no training, the user's reach the user as if nobody stood between.

Where Lightning starts the processes of a fit, as under ``ddp_spawn``, `tell_exceptions` hears what ends it there: the
callbacks of the launching process have seen nothing of the fit.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from lightning_debugkit.core import batch_hooks
from lightning_debugkit.core.compat import (
    RUN_STAGE,
    LightningModule,
    Trainer,
    _dispatch_modes,
    _function_modes,
    callbacks_of,
    is_launched,
    modes_aside,
)
from lightning_debugkit.core.patching import around_next

if TYPE_CHECKING:
    from lightning_debugkit.core.callback import DebugCallback

_log = logging.getLogger("lightning_debugkit")


def guarded(name: str, hook: Callable[..., Any], instead: Callable[..., Any] | None = None) -> Callable[..., Any]:
    """Let nothing that fails inside ``hook`` end the training: it is an event in the journal.

    Args:
        instead: Called when it has failed.
    """

    # Asked outside of batches: it takes microseconds, and what is set then holds for them.
    asks = name not in batch_hooks.NAMES

    @functools.wraps(hook)
    def held(self: DebugCallback, trainer: Trainer, *args: Any, **kwargs: Any) -> Any:
        if self.idle and name != "setup":
            return None
        try:
            if asks:
                self.numpy_raises = "raise" in np.geterr().values()
            if not (_dispatch_modes() or _function_modes() or self.numpy_raises):  # nearly always
                return hook(self, trainer, *args, **kwargs)
            # What the kit computes is no operation of the user's: a FLOP counter around the fit must not count it, and
            # `np.seterr` not end it.
            with modes_aside(), np.errstate(all="ignore"):
                return hook(self, trainer, *args, **kwargs)
        except self.passes:
            raise
        except Exception as error:
            self.trouble(trainer, name, error)
            if instead is not None:
                instead(self, trainer, *args, **kwargs)
            return None

    held._guarded = True  # type: ignore[attr-defined]  # by this the contract's test knows every hook is
    return held


def guarded_state(name: str, method: Callable[..., Any]) -> Callable[..., Any]:
    """Let nothing that fails in saving or loading our own state cost the user a checkpoint or a resume."""

    @functools.wraps(method)
    def held(self: DebugCallback, *args: Any) -> Any:
        try:
            return method(self, *args)
        except self.passes:
            raise
        except Exception as error:
            _log.warning(f"lightning-debugkit: {type(self).__name__}.{name} failed ({type(error).__name__}: {error})")
            return {} if name == "state_dict" else None

    return held


_PACKAGE = str(Path(__file__).parents[1])
# A local of the functions that only pass a call on; pytest leaves frames out by the same name.
_MARK = "__tracebackhide__"


def leave_out_passing_frames(error: BaseException) -> None:
    """Take the frames of ours that only passed a call on out of the tracebacks of ``error`` and of what led to it.

    A frame of ours that raised, or that is not marked, stays: a fault of the kit must not look like another's.
    """
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        current = waiting.pop()
        if current is None or id(current) in seen:
            continue
        seen.add(id(current))
        current.__traceback__ = _without(current.__traceback__)
        waiting += [current.__cause__, current.__context__]


def _without(traceback: TracebackType | None) -> TracebackType | None:
    kept = [each for each in _links(traceback) if each.tb_next is None or not _passes(each)]
    for one, following in itertools.pairwise(kept):
        one.tb_next = following
    return kept[0] if kept else None


def _links(traceback: TracebackType | None) -> list[TracebackType]:
    found = []
    while traceback is not None:
        found.append(traceback)
        traceback = traceback.tb_next
    return found


def _passes(traceback: TracebackType) -> bool:
    code = traceback.tb_frame.f_code
    return _MARK in code.co_varnames and code.co_filename.startswith(_PACKAGE)


def tell_exceptions(trainer: Trainer, module: LightningModule, callbacks: Sequence[DebugCallback]) -> None:
    """Let ``callbacks`` hear what ends the fit that is about to start, if anything does, where Lightning tells none.

    It tells none in a process that it has started, nor where the program has taken them all out of the Trainer: some
    clear its callbacks before they pass an error on. They are put back.
    """
    held = [each for each in callbacks if each in callbacks_of(trainer)]

    @contextlib.contextmanager
    def told() -> Iterator[None]:
        try:
            yield
        except BaseException as error:
            left = callbacks_of(trainer)
            if held and not any(each in left for each in held):
                trainer.callbacks = [*left, *held]  # type: ignore[attr-defined]  # set by a connector
            if is_launched(trainer):
                for each in callbacks:
                    each.on_exception(trainer, module, error)
            raise

    around_next(trainer, RUN_STAGE, told)
