"""The kit without a change of code: ``LIGHTNING_DEBUGKIT=standard python train.py``."""

from __future__ import annotations

import os
import warnings
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lightning.pytorch import Callback

VARIABLE = "LIGHTNING_DEBUGKIT"


def callbacks() -> list[Callback]:
    """Return the callbacks of the preset that the environment names, none if it names none.

    Lightning calls this for every Trainer: it never raises, and what it adds gives way to the user's own.
    """
    preset = os.environ.get(VARIABLE, "").strip().lower()
    if preset in ("", "0", "off", "false", "no", "none"):
        return []
    from lightning_debugkit.presets import PRESETS, debugkit

    if preset in ("1", "on", "true", "yes"):
        preset = "standard"
    if preset not in PRESETS:
        warnings.warn(
            f"{VARIABLE} needs light, standard, thorough or off, got {preset!r}; no debugkit callback was added.",
            stacklevel=2,
        )
        return []
    made = debugkit(preset)  # type: ignore[arg-type]  # one of PRESETS
    for callback in made:
        callback.autoloaded = True  # type: ignore[attr-defined]  # ours, by which the user's own is given way
    return made
