"""The files that an analysis leaves in the run folder."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer

from lightning_debugkit.callbacks.errors.analysis import Analysis, write
from lightning_debugkit.callbacks.errors.gallery import Gallery, tokenizer_of
from lightning_debugkit.callbacks.errors.gathering import Gathered
from lightning_debugkit.callbacks.errors.misclassified import write_misclassified
from lightning_debugkit.callbacks.predictions.padding import loaders_of

FILES = {"validate": ("errors.json", "misclassified.csv"), "test": ("errors-test.json", "misclassified-test.csv")}


@dataclass(frozen=True)
class Named:
    """What was gathered, with the names of its samples, or without.

    Args:
        found: What was gathered.
        notes: What to say of the names.
        may_draw: Whether the data set has the samples at their indices.
    """

    found: Gathered
    notes: list[str] = field(default_factory=list)
    may_draw: bool = True


def settled(found: Gathered, trainer: Trainer, stage: str, is_last: bool) -> Named:
    """Return what was gathered with the names that are beyond doubt; in doubt, the last analysis looks at the data."""
    if not is_last:
        return Named(found.nameless()) if found.evidence.is_pending else Named(found)
    verdict = found.evidence.judge(loaders_of(_loaders(trainer, stage)))
    notes = [note for note in (verdict.unnamed, verdict.undrawn) if note]
    return Named(found.nameless() if verdict.unnamed else found, notes, not verdict.undrawn)


def _loaders(trainer: Trainer, stage: str) -> Any:
    return trainer.test_dataloaders if stage == "test" else trainer.val_dataloaders


def leave(
    folder: Path, trainer: Trainer, module: LightningModule, analysis: Analysis, course: Any, pictures: int
) -> Iterator[dict[str, Any]]:
    """Write an analysis, and the samples that go with it; yield the artifacts.

    Args:
        folder: Run folder.
        trainer: Whose loaders hold the samples.
        module: Model.
        analysis: What to write.
        course: How training samples fared, ``None`` if that is not known.
        pictures: Samples to draw at most.
    """
    stage = analysis.moment.stage
    held = analysis.as_dict()
    held["dynamics"] = course if stage == "validate" else None
    path, table = FILES[stage]
    if pictures:
        gallery = Gallery(
            folder, _loaders(trainer, stage), tokenizer_of(trainer, module), "test-" if stage == "test" else ""
        )
        gallery.draw(analysis.shown(held), pictures)
        held["pictures"], held["samples"] = gallery.pictures, gallery.samples
        held["notes"] += [gallery.failed] if gallery.failed else []
    write(folder, path, held)
    right = analysis.accuracy.value
    told = {"stage": stage, "accuracy": right, "errors": analysis.found.totals.wrong, "n": held["n"]}
    yield {"name": "error-analysis", "what": "error-analysis", "path": path, **told}
    if len(analysis.samples.rows):
        write_misclassified(folder / table, analysis.found, analysis.samples, analysis.names)
        yield {"name": "misclassified", "path": table, "samples": len(analysis.samples.rows)}
    else:  # of an earlier validation
        (folder / table).unlink(missing_ok=True)
