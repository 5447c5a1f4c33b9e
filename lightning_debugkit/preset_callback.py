"""A preset as one callback, for configurations that cannot call `debugkit`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from lightning_debugkit.core.callback import DebugCallback
from lightning_debugkit.core.compat import Callback, LightningModule, Trainer, callbacks_of
from lightning_debugkit.core.finding import Finding
from lightning_debugkit.core.sinks import ToLoggers
from lightning_debugkit.presets import PresetName, debugkit


class Preset(DebugCallback):
    """All callbacks of a preset as one: ``debugkit()`` for the YAML of a LightningCLI or Hydra.

    When the Trainer sets up, it puts the callbacks of the preset behind itself, once.

    Args:
        preset: How much to watch: ``light``, ``standard`` or ``thorough``.
        on_finding: Called with each `Finding`, or its dotted path.
        loggers: What the Trainer's loggers get: ``findings``, ``all`` or ``none``.
        ignore: Names of rules that are neither reported nor acted upon.
        options: Arguments of the callbacks, such as ``action: warn``; each goes to all that have it.

    Raises:
        ValueError: An argument is none of these, or there is no such rule or function.
        TypeError: No callback of the preset has such an option.
    """

    def __init__(
        self,
        preset: PresetName = "standard",
        on_finding: Callable[[Finding], Any] | str | None = None,
        loggers: ToLoggers = "findings",
        ignore: Sequence[str] = (),
        options: dict[str, Any] | None = None,
    ) -> None:
        self.preset = preset
        self.on_finding = on_finding
        self.loggers = loggers
        self.ignore = ignore
        self.options = options
        self.callbacks: list[Callback] = debugkit(
            preset, on_finding=on_finding, loggers=loggers, ignore=ignore, **(options or {})
        )

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if not self.callbacks:  # LIGHTNING_DEBUGKIT=off
            self.idle = True
            return
        callbacks = callbacks_of(trainer)
        mine = [each for each in self.callbacks if each not in callbacks]
        # Lightning goes on to the next of this very list: each of them is set up next.
        at = callbacks.index(self) + 1
        callbacks[at:at] = mine
        super().setup(trainer, pl_module, stage)
