"""Which entries of the data set the samples are that a replay has named."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lightning_debugkit.core.compat import Trainer
from lightning_debugkit.data.batches import entry
from lightning_debugkit.data.loaders import transfer_hook
from lightning_debugkit.data.sample_entries import entries_of, place_below
from lightning_debugkit.data.sample_order import Handed
from lightning_debugkit.replay.diagnosis import Diagnosis


def _handed(every: Sequence[Handed], found: Diagnosis) -> Handed | None:
    """Return what the loader handed out that the samples are of."""
    return next((handed for handed in every if ".".join(handed.way) == found.part), None)


def known_entries(
    trainer: Trainer, every: Sequence[Handed], batch: Any, found: Diagnosis | None
) -> tuple[list[Any], str]:
    """Return the entries of the data set that the samples are, and why they are not known."""
    handed = _handed(every, found) if found is not None and found.samples else None
    if found is None or handed is None:
        return [], ""
    try:
        return entries_of(handed, entry(batch, handed.way), found.samples, transfer_hook(trainer))
    except Exception as error:  # the user's data set or collate function: what was found must be told all the same
        return [], f"which entries of the dataset they are is not known ({type(error).__name__}: {error})"


def entries_below(every: Sequence[Handed], found: Diagnosis | None, entries: Sequence[Any]) -> list[str]:
    """Return which entries these are of the data below a subset or a chain of data sets."""
    handed = _handed(every, found) if found is not None else None
    dataset = getattr(handed.loader(), "dataset", None) if handed is not None and handed.loader is not None else None
    return [name for each in entries if (name := place_below(dataset, each))]
