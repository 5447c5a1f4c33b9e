"""The whole of an error analysis, in the order in which a tired reader wants it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from lightning_debugkit.core.finding import Finding
from lightning_debugkit.core.name_lists import percent
from lightning_debugkit.report.error_analysis import class_scores, confused_pairs, matrix, reliability, sample_dynamics
from lightning_debugkit.report.error_analysis.analysis_file import (
    AnalysisFile,
    finite_number,
    further,
    known,
    of_stage,
    own_paths,
    read_analysis,
)
from lightning_debugkit.report.error_analysis.highest_losses import losses
from lightning_debugkit.report.error_analysis.sample_album import Album
from lightning_debugkit.report.number_formats import as_int, as_list, as_mapping, sentence, shortened
from lightning_debugkit.report.parts import Details, Drawing, Paragraph, Part
from lightning_debugkit.report.summary import Summary

_MOST_NOTES = 20
_MOST_FURTHER = 6
_FURTHER_BUDGET = 200_000
_TITLE = 120


def chapter(summary: Summary, folder: Path, stage: str, stem: str) -> Iterator[Part | Drawing]:
    """Yield the parts of the run's own analysis of a stage; ``stem`` begins the names of its figures."""
    try:
        analysis = of_stage(summary, folder, stage)
    except (OSError, ValueError) as error:
        yield _unreadable(error)
        return
    if analysis is not None:
        tells_training = stage != "test" or not own_paths(summary, "validate")  # what does is told once
        yield from _whole(analysis, Album(folder, analysis), stem, tells_training)


def further_chapters(summary: Summary, folder: Path) -> Iterator[Part | Drawing]:
    """Yield the analyses beside the run's own, each folded under its title."""
    told = further(summary)
    if len(told) > _MOST_FURTHER:
        kept = "the last of them are shown, the others are in the run folder: "
        yield Paragraph(f"There are {len(told)}; {kept}{', '.join([*told][:-_MOST_FURTHER])}.")
    for number, (path, title) in enumerate([*told.items()][-_MOST_FURTHER:], start=1):
        try:
            analysis = read_analysis(folder, path)
            parts = tuple(_whole(analysis, Album(folder, analysis, _FURTHER_BUDGET), f"errors-further-{number}", True))
        except (OSError, ValueError) as error:
            parts = (_unreadable(error),)
        yield Details(shortened(title, _TITLE), parts)


def is_further(finding: Finding) -> bool:
    """Tell whether a finding is of an analysis that is not the run's own."""
    own = ("", "errors.json", "errors-test.json")
    return str(finding.evidence.get("analysis") or "") not in own


def _unreadable(error: Exception) -> Paragraph:
    return Paragraph(f"The error analysis cannot be shown: {sentence(str(error), 200)}.", is_problem=True)


def _whole(analysis: AnalysisFile, album: Album, stem: str, tells_training: bool) -> Iterator[Part | Drawing]:
    yield from _verdict(analysis)
    if analysis.n:
        yield from matrix.drawings(analysis, stem)
        yield from confused_pairs.pair_parts(analysis, album)
        yield from confused_pairs.merges(analysis)
        yield from losses(analysis, album)
        yield from confused_pairs.issues(analysis, album)
        yield from class_scores.slices(analysis)
        yield from class_scores.scores(analysis)
        yield from reliability.reliability(analysis, stem)
    if tells_training:
        yield from sample_dynamics.history_parts(analysis, stem)
        yield from sample_dynamics.dynamics(analysis, stem)
    yield from _notes(analysis)


def _verdict(analysis: AnalysisFile) -> Iterator[Paragraph]:
    broken = as_int(analysis.held.get("broken"))
    if not analysis.n and not broken and as_mapping(analysis.held.get("dynamics")):
        yield Paragraph("Nothing was validated: what is known is how the training samples fared.")
        return
    if not analysis.n:
        yield Paragraph(f"No {analysis.unit} were counted, so that there is nothing to say of mistakes.")
        return
    right = as_mapping(analysis.held.get("accuracy"))
    value, least = finite_number(right, "value"), finite_number(analysis.held, "baseline_accuracy")
    said = f"{analysis.n:,} {analysis.unit if analysis.n > 1 else analysis.noun}"
    said += f": {percent(value)} right" if value is not None else ""
    low, high = known(right, "low", percent), known(right, "high", percent)
    said += f" (95 % interval {low.removesuffix(' %')} to {high.removesuffix(' %')})" if low and high else ""
    said += f", {_mistakes(analysis.mistakes)}." if len(analysis.cells) else "."
    yield Paragraph(said + _leading(analysis))
    if value is not None and least is not None and len(matrix.class_places(analysis)) > 1:
        always = f"Always answering the most frequent class would be right in {percent(least)}"
        yield Paragraph(f"{always}: the model is no better than that." if value <= least else f"{always}.")
    if broken:
        have = f"1 {analysis.noun} has" if broken == 1 else f"{broken:,} {analysis.unit} have"
        yield Paragraph(f"{have} scores that are not finite.", is_problem=True)
    if told := class_scores.never_predicted_parts(analysis):
        yield Paragraph(told)
    if len(matrix.class_places(analysis)) == 1:
        yield Paragraph("There is only one class: nothing can be confused with another.")


def _mistakes(count: int) -> str:
    return "no mistake" if not count else "1 mistake" if count == 1 else f"{count:,} mistakes"


def _leading(analysis: AnalysisFile) -> str:
    """Return the most frequent confusion in a sentence."""
    found = analysis.rows("most_confused")[:1]
    if not found or not analysis.mistakes:
        return ""
    row, count = found[0], as_int(found[0].get("count"))
    part = f", {percent(count / analysis.mistakes)} of all mistakes" if count < analysis.mistakes else ""
    target, predicted = row.get("target"), row.get("predicted")
    said = f"{analysis.name(target)} is taken for {analysis.name(predicted)}"
    if analysis.is_nothing(predicted):
        said = f"{analysis.name(target)} is missed"
    elif analysis.is_nothing(target):
        said = f"{analysis.name(predicted)} is seen where there is none"
    return f" Most often {said}: {count:,} times{part}."


def _notes(analysis: AnalysisFile) -> Iterator[Part]:
    notes = [str(note) for note in as_list(analysis.held.get("notes"))]
    at = f"Counted at step {as_int(analysis.held.get('step')):,}, epoch {as_int(analysis.held.get('epoch')):,}."
    told = [at] if "step" in analysis.held else []
    if notes or told:
        yield Details("How this was measured", tuple(map(Paragraph, [*told, *notes[:_MOST_NOTES]])))
