"""The samples that the model was most wrong about, and the mistakes it was most sure of."""

from __future__ import annotations

import heapq
from collections.abc import Iterator

from lightning_debugkit.report.error_analysis.analysis_file import (
    AnalysisFile,
    Row,
    filled,
    finite_number,
    known,
    probability,
)
from lightning_debugkit.report.error_analysis.sample_album import Album, gallery
from lightning_debugkit.report.number_formats import number
from lightning_debugkit.report.parts import Details, Heading, Part, SamplePart, Table

_SHOWN, _FEW, _LISTED = 14, 3, 50


def losses(analysis: AnalysisFile, album: Album) -> Iterator[Part]:
    """Yield the largest losses as a gallery and as a table, and the most confident mistakes."""
    found = analysis.rows("top_losses")
    if not found:
        return
    yield Heading("Most wrong")
    wrong = sum(_is_wrong(row) for row in found)
    most = min(_SHOWN, max(wrong, _FEW))  # a model with one mistake has no fourteen to look at
    shown = tuple(gallery("Largest losses", (_sample(row, analysis, album) for row in found[:most])))
    table = _table("Largest losses", found[:_LISTED], analysis)
    yield from shown or (table,)
    if shown:
        yield Details(f"Largest losses as a table ({min(len(found), _LISTED)})", (table,))
    sure = _most_sure(analysis)
    if {str(row.get("index")) for row in sure} - {str(row.get("index")) for row in found[:most]}:
        title = "The mistakes it was most sure of"
        seen = tuple(gallery(title, (_sample(row, analysis, album) for row in sure)))
        yield Details(title, seen or (_table(title, sure, analysis),))


def _is_wrong(row: Row) -> bool:
    return row.get("target") != row.get("predicted")


def _most_sure(analysis: AnalysisFile) -> list[Row]:
    told = analysis.rows("confident_mistakes") or analysis.rows("top_losses")
    wrong = [row for row in told if _is_wrong(row) and finite_number(row, "confidence") is not None]
    return heapq.nlargest(_SHOWN, wrong, key=lambda row: finite_number(row, "confidence") or 0.0)


def _sample(row: Row, analysis: AnalysisFile, album: Album) -> SamplePart:
    target, predicted = row.get("target"), row.get("predicted")
    is_right = not _is_wrong(row)
    own, sure = known(row, "probability", probability), known(row, "confidence", probability)
    loss = known(row, "loss", number)
    return album.sample(
        row.get("index"),
        f"true: {analysis.name(target)}",
        f"{'rightly' if is_right else 'taken for'} {analysis.name(predicted)}",
        f"{sure} sure" if sure else "",
        f"p(true) {own}" if own and not is_right else f"loss {loss}" if loss else "",
    )


def _table(caption: str, found: list[Row], analysis: AnalysisFile) -> Table:
    rows = tuple(
        (
            str(row.get("index", "")),
            analysis.name(row.get("target")),
            analysis.name(row.get("predicted")),
            known(row, "loss", number),
            known(row, "probability", probability),
            known(row, "confidence", probability),
        )
        for row in found
    )
    return filled(caption, ("index", "true class", "taken for", "loss", "p(true)", "p(taken for)"), rows)
