"""The kit without a change of code: ``LIGHTNING_DEBUGKIT="standard action=warn" python train.py``."""

from __future__ import annotations

import logging
import os
import shlex
import sys
from types import FrameType
from typing import TYPE_CHECKING, Any

from lightning_debugkit.core.switch import OFF, VARIABLE

if TYPE_CHECKING:
    from lightning.pytorch import Callback

_log = logging.getLogger("lightning_debugkit")


def callbacks() -> list[Callback]:
    """Return the callbacks of the preset that the environment names, none if it names none.

    Lightning calls this for every Trainer: it never raises, and what it adds gives way to the user's own.
    """
    try:
        if {"lightning.pytorch", "pytorch_lightning"} <= sys.modules.keys():
            # Callbacks that were made before the other package was imported are about to be asked where they belong.
            from lightning_debugkit.core.callback import DebugCallback

            DebugCallback.belong()
        _drop_former()
        return _chosen(os.environ.get(VARIABLE, ""))
    except Exception as error:  # also where warnings are errors, or a package of ours is broken: the run is the user's
        kind = "" if isinstance(error, ValueError | TypeError) else f"{type(error).__name__}: "
        _log.error(f"lightning-debugkit: this training is NOT watched: {kind}{error}")
        return []


def _chosen(value: str) -> list[Callback]:
    preset, *options = shlex.split(value) or [""]
    preset = preset.lower()
    if preset in ("", *OFF):
        return []
    from lightning_debugkit.presets import PRESETS, debugkit  # late: if it is broken, the run goes on

    if preset in ("1", "on", "true", "yes"):
        preset = "standard"
    if preset not in PRESETS:
        raise ValueError(f"{VARIABLE} needs light, standard, thorough or off, got {preset!r}.")
    made = debugkit(preset, **_options(options))  # type: ignore[arg-type]  # one of PRESETS
    for callback in made:
        callback.autoloaded = True  # type: ignore[attr-defined]  # ours, by which the user's own is given way
    return made


def _drop_former() -> None:
    """Take the preset of an earlier Trainer out of the list that is given to the Trainer that is being made.

    Lightning extends the list of the caller, so that a second Trainer with the same list would have two presets, and
    refuses two callbacks of one state key.
    """
    frame: FrameType | None = sys._getframe()
    while frame is not None and frame.f_code.co_name != "on_trainer_init":
        frame = frame.f_back
    if frame is not None:
        given = frame.f_locals["self"].trainer.callbacks
        given[:] = [each for each in given if not getattr(each, "autoloaded", False)]


def _options(words: list[str]) -> dict[str, Any]:
    """Return what stands behind the preset, such as ``action=warn ignore=update-ratio-high,constant-input``.

    Raises:
        ValueError: A word is not ``name=value``.
    """
    import yaml

    found: dict[str, Any] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals:
            raise ValueError(f"{VARIABLE} needs options as name=value behind the preset, got {word!r}.")
        found[name] = value.split(",") if name == "ignore" else yaml.safe_load(value)
    return found
