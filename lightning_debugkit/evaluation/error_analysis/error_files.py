"""The files that an analysis leaves in the run folder."""

from __future__ import annotations

import csv
import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from lightning_debugkit.core.compat import LightningModule, Trainer
from lightning_debugkit.data.loaders import loaders_of_pass
from lightning_debugkit.evaluation.error_analysis.collected_answers import CollectedAnswers
from lightning_debugkit.evaluation.error_analysis.error_summary import Samples
from lightning_debugkit.evaluation.error_analysis.errors_json import ErrorAnalysisResult, write_analysis
from lightning_debugkit.evaluation.error_analysis.sample_pictures import SampleGallery, tokenizer_of

_MOST = 100_000  # rows of the table of mistakes
_WHOLE = 2.0**53
_HEADER = ("index", "target", "target_name", "predicted", "predicted_name", "loss", "probability", "confidence")


@dataclass(frozen=True)
class ErrorFiles:
    """The names of what one analysis leaves."""

    own: str  # what its callback's files begin with: `errors`, of a second one `errors-2`
    rest: str  # what tells its pass from others: empty, `-test`, `-validate`, `-validate-2`
    title: str  # of its part of the report; empty for what the run has sections of its own for
    is_later: bool  # whether it is of a pass after the run's own

    @property
    def analysis(self) -> str:
        return f"{self.own}{self.rest}.json"

    @property
    def table(self) -> str:
        return f"misclassified{self.own.removeprefix('errors')}{self.rest}.csv"

    @property
    def prefix(self) -> str:
        """What the names of its pictures begin with."""
        begins = (self.own.removeprefix("errors") + self.rest).removeprefix("-")
        return f"{begins}-" if begins else ""


def files_of(
    folder: Path, stage: Literal["validate", "test"], is_fit: bool, number: int = 1, asked: str = ""
) -> ErrorFiles:
    """Return names that take no other result's place.

    A fit has its own; a validation or a test of a run that has one already is another result.

    Args:
        number: Which one of its kind in the Trainer the callback is.
        asked: How it was asked for, for the title of a second one.
    """
    own = f"errors-{number}" if number > 1 else "errors"
    rests = _rests(stage)
    main = rest = next(rests)
    while not is_fit and (folder / f"{own}{rest}.json").exists():
        rest = next(rests)
    is_later = rest != main
    words = [asked] if number > 1 else []
    if is_later or (words and stage == "test"):
        words += [rest.strip("-").replace("-", " ").replace("validate", "a later validation")]
    title = ", ".join(words)
    return ErrorFiles(own, rest, title[:1].upper() + title[1:], is_later)


def _rests(stage: str) -> Iterator[str]:
    """Yield what names end with: that of a run's own pass first."""
    if stage == "validate":
        yield ""
    yield f"-{stage}"
    yield from (f"-{stage}-{times}" for times in itertools.count(2))


@dataclass(frozen=True)
class Named:
    """What was gathered, with the names of its samples, or without."""

    found: CollectedAnswers
    notes: list[str] = field(default_factory=list)  # what to say of the names
    may_draw: bool = True  # whether the data set has the samples at their indices


def settled_files(found: CollectedAnswers, trainer: Trainer, stage: str, is_last: bool) -> Named:
    """Return what was gathered with the names that are beyond doubt; in doubt, the last analysis looks at the data."""
    if not is_last:
        return Named(found.nameless()) if found.evidence.is_pending else Named(found)
    verdict = found.evidence.judge(loaders_of_pass(trainer, stage == "test"))
    notes = [note for note in (verdict.unnamed, verdict.undrawn) if note]
    return Named(found.nameless() if verdict.unnamed else found, notes, not verdict.undrawn)


def write_error_files(
    folder: Path,
    trainer: Trainer,
    module: LightningModule,
    analysis: ErrorAnalysisResult,
    course: Any,
    pictures: int,
    files: ErrorFiles,
) -> Iterator[dict[str, Any]]:
    """Write an analysis, and the samples that go with it; yield the artifacts.

    Args:
        course: How training samples fared, ``None`` if that is not known.
    """
    stage = analysis.moment.stage
    held = analysis.as_dict()
    held["dynamics"] = course if stage == "validate" else None
    if files.is_later:  # what tells of the training is told once
        held["history"], held["dynamics"] = [], None
    if pictures:
        gallery = SampleGallery(
            folder, loaders_of_pass(trainer, stage == "test"), tokenizer_of(trainer, module), files.prefix
        )
        gallery.draw(analysis.shown(held), pictures)
        held["pictures"], held["samples"] = gallery.pictures, gallery.samples
        held["notes"] += [gallery.failed] if gallery.failed else []
    write_analysis(folder, files.analysis, held)
    right = analysis.accuracy.value
    told = {"stage": stage, "accuracy": right, "errors": analysis.found.totals.wrong, "n": held["n"]}
    further = {"title": files.title} if files.title else {}
    yield {"name": "error-analysis", "what": "error-analysis", "path": files.analysis, **told, **further}
    if len(analysis.samples.rows):
        write_misclassified(folder / files.table, analysis.found, analysis.samples, analysis.names)
        yield {"name": "misclassified", "path": files.table, "samples": len(analysis.samples.rows)}
    else:  # of an earlier validation
        (folder / files.table).unlink(missing_ok=True)


def write_misclassified(path: Path, found: CollectedAnswers, samples: Samples, names: list[str]) -> None:
    """Write the samples that are wrong, the largest loss first."""
    table, rows = found.table, samples.rows[:_MOST]
    own = [table[name][rows].tolist() for name in ("index", "target", "predicted", "loss", "given", "confidence")]
    counts = [table[name][rows].tolist() for name in ("wrong", "size")]
    more = {name: values[rows].tolist() for name, values in found.columns.items()}
    many = found.form.unit != "samples"
    with path.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file:
        writer = csv.writer(file)
        writer.writerow([*_HEADER, *(("wrong", "answers") if many else ()), *more])
        for index, target, predicted, loss, given, confidence, *rest in zip(
            *own, *(counts if many else ()), *more.values(), strict=True
        ):
            place = index if index >= 0 else ""
            pair = (target, _name(names, target), predicted, _name(names, predicted))
            writer.writerow([place, *pair, *map(_plain, (loss, given, confidence)), *map(_plain, rest)])


def _name(names: list[str], number: int) -> str:
    return names[number] if 0 <= number < len(names) else ""


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        if value.is_integer() and abs(value) < _WHOLE:
            return f"{value:.0f}"
        return "" if math.isnan(value) else f"{value:.6g}"
    return value
