"""How well each class is found, and the slices of the data in which mistakes gather."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from lightning_debugkit.core.name_lists import listed, percent
from lightning_debugkit.report.error_analysis.analysis_file import AnalysisFile, Row, finite_number, known, share
from lightning_debugkit.report.number_formats import as_int, as_mapping, number, phrase
from lightning_debugkit.report.parts import Cell, Details, Heading, Paragraph, Part, Table, table_of

_ALL, _SHOWN, _MOST = 12, 8, 200
_NAMED = 6
_SCORES = {"recall": "recall", "precision": "precision", "f1": "F1"}


def never_predicted_parts(analysis: AnalysisFile) -> str:
    """Return a sentence on classes that are there and never predicted, empty if there are none."""
    rows = analysis.rows("per_class")
    silent = [row for row in rows if as_int(row.get("support")) > 0 and as_int(row.get("predicted"), 1) == 0]
    if not silent:
        return ""
    return f"Never predicted: {listed([analysis.name(row.get('class')) for row in silent], _NAMED)}."


def scores(analysis: AnalysisFile) -> Iterator[Part]:
    """Yield the classes, the one that is found worst first; folded where they are many."""
    rows = sorted(analysis.rows("per_class"), key=_recall)
    if len(rows) < 2:
        return
    yield Heading("Class by class")
    said = []
    balanced, kappa = finite_number(analysis.held, "balanced_accuracy"), finite_number(analysis.held, "kappa")
    if balanced is not None:
        said.append(f"Balanced accuracy, in which every class counts the same, is {percent(balanced)}")
    if kappa is not None:
        said.append(f"Cohen's kappa, 0 for chance and 1 for no mistake, is {number(round(kappa, 4))}")
    if said:
        yield Paragraph("; ".join(said) + ".")
    few = len(rows) <= _ALL
    yield _scores("Lowest recall first", rows if few else rows[:_SHOWN], analysis)
    if not few:
        rest = rows[_SHOWN:_MOST]
        all_named = len(rows) <= _MOST
        title = f"The other {len(rest):,} classes" if all_named else f"The next {len(rest):,} of {len(rows):,} classes"
        caption = "Lowest recall first, continued" + ("" if all_named else f"; all are in {analysis.path}")
        yield Details(title, (_scores(caption, rest, analysis),))


def _recall(row: Row) -> tuple[float, int]:
    """Classes without samples have no recall and stand last."""
    known = finite_number(row, "recall")
    return (math.inf if known is None else known, -as_int(row.get("support")))


def _scores(caption: str, rows: Sequence[Row], analysis: AnalysisFile) -> Table:
    header = ("class", analysis.unit, *(f"{name}{analysis.bounded}" for name in _SCORES.values()), "predicted")
    return table_of(caption, header, (_score(row, analysis) for row in rows))


def _score(row: Row, analysis: AnalysisFile) -> tuple[Cell | str, ...]:
    support, predicted = as_int(row.get("support")), row.get("predicted")
    shares = (analysis.share(row, key, f"{key}_low", f"{key}_high") for key in _SCORES)
    return (
        analysis.name(row.get("class")),
        f"{support:,}",
        *shares,
        Cell(f"{as_int(predicted):,}" if predicted is not None else "", is_marked=support > 0 and predicted == 0),
    )


def slices(analysis: AnalysisFile) -> Iterator[Part]:
    """Yield where mistakes gather, beyond chance."""
    found, tested = analysis.rows("weak_slices"), as_int(analysis.held.get("tested_slices"))
    if not found and not tested:
        return
    yield Heading("Where mistakes gather")
    if not found:
        looked = "The one slice that was" if tested == 1 else f"None of {tested:,} slices that were"
        yield Paragraph(f"{looked} looked at has more mistakes than the rest, beyond chance.")
        return
    among = f", of {tested:,} that were looked at (p is corrected for their number)" if tested > 1 else ""
    yield table_of(
        f"Slices with more mistakes than the rest beyond chance{among}",
        ("where", "samples", "wrong (95 %)", "elsewhere", "p"),
        tuple(
            (
                _where(row),
                f"{as_int(row.get('n')):,}",
                share(row, "rate", "low", "high"),
                known(row, "rest_rate", percent),
                known(row, "p", "{:.1g}".format),
            )
            for row in found[:_ALL]
        ),
    )


def _where(row: Row) -> str:
    told = as_mapping(row.get("conditions"))
    return " and ".join(f"{column}: {phrase(value)}" for column, value in told.items()) or "everywhere"
