"""The environment variable that adds the kit to a program, or leaves it out."""

from __future__ import annotations

import os

VARIABLE = "LIGHTNING_DEBUGKIT"
OFF = ("0", "off", "false", "no", "none")


def is_off() -> bool:
    """Tell whether the environment leaves the kit out."""
    return os.environ.get(VARIABLE, "").strip().lower() in OFF
