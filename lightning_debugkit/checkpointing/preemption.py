"""SIGTERM on several ranks: all of them stop before the same batch, so that they can save together.

Lightning's handler starts a collective wherever the signal strikes, which may be in the middle of another one, and each
rank then stops by itself. Here the handler takes a note, and the question that Lightning asks before each batch is
answered by all ranks.
"""

from __future__ import annotations

import signal
from typing import Any

import torch

from lightning_debugkit.core.compat import SIGTERMException, Trainer
from lightning_debugkit.core.patching import StandIn

# Of Lightning, not documented; seen in 2.5.2 to 2.6. Without them nothing is saved at a SIGTERM of several ranks.
_ASKED, _HANDLER = "_broadcast_sigterm_tensor", "_sigterm_notifier_fn"


class AgreedSigterm(SIGTERMException):
    """All ranks were told of a SIGTERM, and stand before the same batch."""


class SigtermAgreement:
    """Lets all ranks of a fit stop before the same batch once any of them got a SIGTERM."""

    def __init__(self, trainer: Trainer) -> None:
        self._trainer = trainer  # its handlers of signals must be registered already
        self._is_told = False
        self._standing: StandIn | None = None
        self._handlers: list[Any] | None = None
        self._usual: Any = None

    def install(self) -> None:
        """Take the place of Lightning's handler and question; every rank must do so, or none."""
        loop: Any = self._trainer.fit_loop.epoch_loop
        handlers = getattr(signal.getsignal(signal.SIGTERM), "signal_handlers", None)
        if self._trainer.world_size == 1 or not hasattr(loop, _ASKED) or not isinstance(handlers, list):
            return
        place = next((at for at, each in enumerate(handlers) if getattr(each, "__name__", "") == _HANDLER), None)
        if place is None:
            return
        self._handlers, self._usual, handlers[place] = handlers, handlers[place], self._told
        self._standing = StandIn(loop, _ASKED, self._ask).stand()

    def remove(self) -> None:
        """Give the Trainer back the way it had; may be called twice."""
        if self._standing is not None:
            self._standing.leave()
            self._standing = None
        if self._handlers is not None and self._told in self._handlers:
            self._handlers[self._handlers.index(self._told)] = self._usual
        self._handlers = None

    def _told(self, number: int, frame: Any) -> None:
        launcher = self._trainer.strategy.launcher
        if launcher is not None and not self._is_told:
            launcher.kill(number)  # tell the processes that this one has started
        self._is_told = True

    def _ask(self) -> None:
        told = torch.tensor([int(self._is_told)], device=self._trainer.strategy.root_device)
        torch.distributed.all_reduce(told, torch.distributed.ReduceOp.MAX)
        if told.item():
            self._trainer._signal_connector.received_sigterm = True
            raise AgreedSigterm
