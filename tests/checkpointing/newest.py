"""The newest sound checkpoint of a folder: what every test of repair and of stores ends with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from lightning_debugkit.checkpointing.records import Record
from lightning_debugkit.checkpointing.repair import candidates, newest_sound
from lightning_debugkit.checkpointing.verification import damage


def newest_good(folder: Path, tell: Callable[[Record, str], object]) -> Record | None:
    """Return the newest checkpoint of ``folder`` whose every byte is sound; ``tell`` hears of newer damaged ones."""
    return newest_sound(candidates(folder), lambda record: damage(folder / record.name, record), tell, str(folder))
