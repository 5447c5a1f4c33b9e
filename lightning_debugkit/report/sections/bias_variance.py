"""What limits the model: the parts of its error, how sure they are, and what to try next."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from lightning_debugkit.core.name_lists import begun
from lightning_debugkit.report.curves import curve_figure, curves
from lightning_debugkit.report.number_formats import as_int, as_list, as_mapping, as_number, phrase, sentence
from lightning_debugkit.report.parts import Cell, Details, Drawing, Paragraph, Section, Table, table_of
from lightning_debugkit.report.stacked_bar import Stack, draw_stack, stack
from lightning_debugkit.report.summary import Measure, Summary

_SPLITS = {"train": "training", "train_dev": "held-out training", "val": "validation", "test": "test", "goal": "goal"}
_SIDES = {
    "above": "beyond doubt",
    "below": "negative beyond doubt: see the notes",
    "across": "could be chance",
    "unknown": "uncertainty unknown",
}
_STUDIES = {
    "learning-curve": "Learning curve",
    "bias-variance-decomposition": "Bias and variance of retrained models",
    "cross-validation": "Cross-validation",
}
_MOST_NOTES = 14


def _parts(summary: Summary, _folder: Path) -> Iterator[Paragraph | Table | Details | Drawing]:
    told = [as_mapping(point.value) for point in summary.points("bias-variance") if point.rank == 0]
    held = told[-1] if told else {}
    if held:
        yield from _analysis(held, {sentence(each.finding.advice) for each in summary.findings})
    yield from _over_time(summary.points("bias-variance-errors"), held)
    for name in _STUDIES:
        for point in summary.points(name)[-1:]:
            yield from _study(name, as_mapping(point.value))


def _analysis(held: Mapping[str, Any], advised: AbstractSet[str]) -> Iterator[Paragraph | Table | Details | Drawing]:
    verdict = str(held.get("verdict", ""))
    yield Paragraph(f"{begun(verdict)}. The numbers are of {held.get('speaks_of', 'the last weights')}.")
    found = stack(held)
    if found is not None:
        yield Drawing(
            "bias-variance",
            "From the goal to the last error",
            _alt(found),
            partial(draw_stack, found),
            "Each part of the bar starts where the one before ends; points are the errors with their 95 % intervals.",
        )
    rows = tuple(
        (
            phrase(row.get("name")).replace("_", " "),
            f"{_name(row.get('from'))} to {_name(row.get('to'))}",
            str(row.get("text", "")),
            _side(row, held),
        )
        for row in map(as_mapping, as_list(held.get("rows")))
    )
    if rows:
        yield table_of("Parts of the error", ("part", "between", "size and 95 % interval", ""), rows)
    shown = as_mapping(held.get("shown"))
    errors = as_mapping(held.get("errors"))
    if shown:
        counted = (phrase(as_mapping(errors.get(name)).get("n")) for name in shown)
        table = tuple((_name(name), str(value), n) for (name, value), n in zip(shown.items(), counted, strict=True))
        yield table_of(f"Measured {held.get('metric', 'error')}", ("data", "value and 95 % interval", "answers"), table)
    steps = [str(step) for step in as_list(held.get("next"))]
    if not {sentence(step) for step in steps} <= advised:  # a finding says what is alone
        yield table_of("What to try next", (), tuple((f"{at}", step) for at, step in enumerate(steps, 1)))
    notes = [str(note) for note in as_list(held.get("notes"))][:_MOST_NOTES]
    if notes:
        yield Details("Notes on these numbers", tuple(map(Paragraph, notes)))


def _side(row: Mapping[str, Any], held: Mapping[str, Any]) -> Cell | str:
    if row.get("from") == "goal" and held.get("goal") is None:
        return "at most: no goal is stated"  # the distance to the best value there is accuses nobody
    return Cell(_SIDES.get(str(row.get("side")), ""), is_marked=row.get("side") == "above")


def _name(split: Any) -> str:
    return _SPLITS.get(str(split), str(split).replace("_", " "))


def _alt(found: Stack) -> str:
    parts = ", ".join(f"{part.label} from {found.text(part.left)} to {found.text(part.right)}" for part in found.parts)
    return f"Parts of the {found.metric}: {parts or 'no parts'}."


def _over_time(points: tuple[Measure, ...], held: Mapping[str, Any]) -> Iterator[Drawing]:
    by_epoch = [_at_epoch(point) for point in points if point.rank == 0]
    found = curves([point for point in by_epoch if point is not None])
    if not found or max(curve.steps.size for curve in found) < 2:
        return
    found = [replace(curve, label=_name(curve.label)) for curve in found]
    metric = str(held.get("metric", "error"))
    said = "; ".join(f"{curve.label} {curve.ends}" for curve in found)
    draw = partial(curve_figure, found, "epoch", metric)
    caption = "All in eval mode and of the same weights, at each validation."
    yield Drawing("bias-variance-epochs", f"{metric.capitalize()} by epoch", f"{said}.", draw, caption)


def _at_epoch(point: Measure) -> Measure | None:
    values = {name: value for name, value in as_mapping(point.value).items() if name != "epoch"}
    epoch = as_mapping(point.value).get("epoch")
    return Measure(as_int(epoch), point.rank, values) if isinstance(epoch, int) and values else None


def _study(name: str, held: Mapping[str, Any]) -> Iterator[Paragraph | Table | Details | Drawing]:
    """What came of training more than once."""
    said = str(held.get("verdict", ""))
    if said:
        yield Paragraph(f"{_STUDIES[name]}: {said}.")
    header = tuple(map(str, as_list(held.get("header"))))
    rows = tuple(tuple(str(cell) for cell in as_list(row)) for row in as_list(held.get("rows")))
    if rows:
        yield table_of(str(held.get("caption", name)), header, rows)
    series = as_mapping(held.get("curve"))
    sizes = [as_number(size) for size in as_list(held.get("sizes"))]
    if series and len(sizes) > 1 and None not in sizes:
        points = [
            Measure(int(size or 0), 0, {label: as_list(values)[at] for label, values in series.items()})
            for at, size in enumerate(sizes)
        ]
        found = curves(points)
        draw = partial(curve_figure, found, "training samples", str(held.get("metric", "error")))
        alt = "; ".join(f"{curve.label} {curve.ends}" for curve in found)
        yield Drawing(name, _STUDIES[name], f"{alt}.", draw, str(held.get("note", "")))


SECTION = Section("Bias and variance", order=15, parts=_parts, key="bias-variance", has_headline=True)
