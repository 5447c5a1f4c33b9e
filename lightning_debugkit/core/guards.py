"""What fails inside of the kit ends no training: around each hook of its callbacks, and what they save and load."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from lightning_debugkit.core.compat import Trainer, _dispatch_modes, _function_modes, modes_aside

if TYPE_CHECKING:
    from lightning_debugkit.core.callback import DebugCallback

_log = logging.getLogger("lightning_debugkit")


def guarded(name: str, hook: Callable[..., Any], instead: Callable[..., Any] | None = None) -> Callable[..., Any]:
    """Let nothing that fails inside ``hook`` end the training: it is an event in the journal.

    Args:
        name: Of the hook.
        hook: As it is written.
        instead: Called when it has failed.
    """

    @functools.wraps(hook)
    def held(self: DebugCallback, trainer: Trainer, *args: Any, **kwargs: Any) -> Any:
        if self.idle and name != "setup":
            return None
        try:
            if not (_dispatch_modes() or _function_modes()):  # nearly always
                return hook(self, trainer, *args, **kwargs)
            # What the kit computes is no operation of the user's: a FLOP counter around the fit must not count it.
            with modes_aside():
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
