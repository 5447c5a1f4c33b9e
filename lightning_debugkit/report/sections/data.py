"""What the data look like: some inputs with their labels, the range of values, classes by split, pairs of copies."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure as Canvas
from PIL import Image

from lightning_debugkit.core.name_lists import percent
from lightning_debugkit.report.figures import axes_of, blank_figure, legend_above, legend_height, room
from lightning_debugkit.report.number_formats import as_int, as_list, as_mapping, as_number, number
from lightning_debugkit.report.palette import PALETTE
from lightning_debugkit.report.parts import (
    FIGURES,
    Cell,
    Drawing,
    Gallery,
    Paragraph,
    SamplePart,
    Section,
    Table,
    table_of,
)
from lightning_debugkit.report.pictures import as_png, enlarged
from lightning_debugkit.report.summary import Summary

_SHOWN = 20  # classes
_PIXELS = 112


def _parts(summary: Summary, folder: Path) -> Iterator[Paragraph | Drawing | Gallery | Table]:
    if not summary.points("data-check"):
        return
    value = summary.last("data-check")
    samples = as_mapping(value.get("samples", {}))
    told = " and ".join(f"{count} {split}" for split, count in samples.items() if count)
    yield Paragraph(f"Looked at: {told or 'no'} samples, and the labels of the first epoch.")
    if kept := as_mapping(value.get("class_mapping")):
        yield Paragraph(_of_subset(as_list(kept.get("labels")), as_list(kept.get("names"))))
    yield from _sheet(as_mapping(value.get("sheet")))
    yield from _copies(as_mapping(value.get("pairs")))
    yield from _values(as_mapping(value.get("values")))
    yield from _classes(as_mapping(value.get("classes")))
    yield from _baseline(summary, folder)


def _of_subset(labels: list[Any], names: list[Any]) -> str:
    """Return which classes a `ClassSubset` keeps, the first of many."""
    rows = [f"{old} ({name})" if str(old) != name else str(old) for old, name in zip(labels, names, strict=False)]
    first = f"class 0 is {rows[0]} of the whole dataset"
    others = [f"{new} is {row}" for new, row in enumerate(rows[1:_SHOWN], 1)]
    told = ", ".join([first, *others, *["..."][: len(rows) > _SHOWN]])
    return f"A part of the dataset's classes is used: {told}."


def _sheet(held: Mapping[str, Any]) -> Iterator[Gallery]:
    found = as_list(held.get("pictures"))
    labels = as_list(held.get("labels"))
    if found:
        samples = [
            _picture(f"data-{at}", f"label {labels[at]}" if at < len(labels) else f"sample {at}", each)
            for at, each in enumerate(found)
        ]
        yield Gallery("First training inputs, as the model gets them", tuple(samples), "Each scaled to its own range.")


def _copies(held: Mapping[str, Any]) -> Iterator[Gallery]:
    for rule, rows in held.items():
        samples = [
            _picture(f"data-{rule}-{at}-{side}", f"pair {at + 1}, {'training' if side else 'the other'}", each)
            for at, row in enumerate(as_list(rows))
            for side, each in enumerate(as_list(row))
        ]
        if samples:
            yield Gallery(f"Pairs of {rule}, side by side", tuple(samples))


def _picture(stem: str, title: str, held: Any) -> SamplePart:
    known = as_mapping(held)
    size = [as_int(side) for side in as_list(known.get("size"))]
    pixels = np.frombuffer(base64.b64decode(str(known.get("pixels", ""))), np.uint8).reshape(size)
    image = enlarged(Image.fromarray(pixels[..., 0] if size[-1] == 1 else pixels), _PIXELS)
    low, high = (as_number(end) for end in (*as_list(known.get("range")), None, None)[:2])
    span = f"{number(low)} to {number(high)}" if low is not None and high is not None else ""
    return SamplePart((title, span), as_png(image), f"{FIGURES}/{stem}.png")


def _values(held: Mapping[str, Any]) -> Iterator[Drawing]:
    names, quantiles = as_list(held.get("names")), as_mapping(held.get("quantiles"))
    if not names or not any(map(as_list, quantiles.values())):
        return
    first = [row for row in as_list(next(iter(quantiles.values()))) if row]
    if not first:
        return
    low, high = min(row[0] for row in first), max(row[-1] for row in first)
    more = f" The first {len(names)} of {as_int(held.get('of'))}." if as_int(held.get("of")) > len(names) else ""
    yield Drawing(
        "data-values",
        "Values of the inputs",
        f"Nine tenths of the training values lie between {number(low)} and {number(high)}.{more}",
        partial(_draw_values, [str(name) for name in names], quantiles),
        f"Line: 5 to 95 % of the values. Bar: the middle half. Dot: the median.{more}",
    )


def _draw_values(names: list[str], quantiles: Mapping[str, Any]) -> Canvas:
    splits = list(quantiles)
    top = 0.1 + legend_height(splits)
    figure = blank_figure(0.7 + 0.3 * len(names) + top, left=room(names, 9) + 0.15, top=top)
    axes = axes_of(figure, grid=False)
    for at, split in enumerate(splits):
        color, shift = PALETTE.series[at], 0.16 * (2 * at - len(splits) + 1)
        for row, marks in enumerate(as_list(quantiles[split])):
            if marks:
                axes.plot(marks[::4], [row + shift] * 2, color=color, linewidth=1.0, label=split if not row else None)
                axes.plot(marks[1:4:2], [row + shift] * 2, color=color, linewidth=4.0, solid_capstyle="butt")
                axes.plot(marks[2], row + shift, marker="o", markersize=3.5, color=PALETTE.ink)
    axes.set_yticks(range(len(names)), names, fontsize=9)
    axes.set_ylim(len(names) - 0.5, -0.5)
    legend_above(axes, splits)
    return figure


def _classes(held: Mapping[str, Any]) -> Iterator[Drawing]:
    labels, counts = [str(each) for each in as_list(held.get("labels"))], as_mapping(held.get("counts"))
    training = as_list(counts.get("training"))
    if not labels or not training:
        return
    of = as_int(held.get("of"))
    more = f" The {len(labels)} most frequent of {of}." if of > len(labels) else ""
    most = int(np.argmax(training))
    yield Drawing(
        "data-classes",
        "Classes by split",
        f"Class {labels[most]} is the most frequent of the training labels: {number(training[most])} of "
        f"{number(sum(training))}.{more}",
        partial(_draw_classes, labels, counts),
        f"Share of the labels of each split.{more}",
    )


def _baseline(summary: Summary, folder: Path) -> Iterator[Table | Paragraph]:
    """Yield what simple models make of the same data, the network beside them."""
    held = summary.last("baseline")
    if held.get("left_out"):
        yield Paragraph(f"Simple models were left out: {held['left_out']}.")
    metric = str(held.get("metric"))
    written = percent if metric == "accuracy" else number
    rows = [_score_row(str(row.get("model")), row, written) for row in map(as_mapping, as_list(held.get("rows")))]
    if not rows:
        return
    found = list(_of_network(summary, folder, metric))
    rows += [_score_row(name, each, written) for name, each in found]
    caption = (
        f"Simple models, learned from {as_int(held.get('trained'))} training samples and scored on "
        f"{as_int(held.get('validated'))} of validation" + ("; the network on all of it" if found else "")
    )
    yield table_of(caption, ("model", metric, "95 % interval", "seconds"), tuple(rows))


def _of_network(summary: Summary, folder: Path, metric: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the validation score of the network: of the analysis of its errors, or as it was logged."""
    with suppress(OSError, ValueError):
        held = as_mapping(json.loads((folder / "errors.json").read_text()))
        if metric == "accuracy" and held.get("stage") == "validate" and held.get("unit") == "samples":
            yield "the network", as_mapping(held.get("accuracy"))
            return
    word = {"accuracy": "acc"}.get(metric, metric.lower())
    for name, value in summary.last("baseline-network").items():
        if word in str(name).lower():
            yield f"the network, as logged ({name})", {"value": value}


def _score_row(name: str, held: Mapping[str, Any], written: Callable[[float], str]) -> tuple[Cell | str, ...]:
    value, low, high, seconds = (as_number(held.get(key)) for key in ("value", "low", "high", "seconds"))
    span = f"{written(low)} to {written(high)}" if low is not None and high is not None else ""
    return (name, written(value) if value is not None else "", span, number(seconds) if seconds is not None else "")


def _draw_classes(labels: list[str], counts: Mapping[str, Any]) -> Canvas:
    splits = [split for split in counts if sum(as_list(counts[split]))]
    top = 0.1 + legend_height(splits)
    figure = blank_figure(2.2 + top, top=top)
    axes = axes_of(figure)
    width = 0.8 / max(len(splits), 1)
    for at, split in enumerate(splits):
        shares = np.array(as_list(counts[split]), dtype=np.float64)
        places = np.arange(len(labels)) + width * (at - (len(splits) - 1) / 2)
        axes.bar(places, shares / shares.sum(), width, color=PALETTE.series[at], label=split)
    axes.set_xticks(range(len(labels)), labels, fontsize=8)
    axes.set_xlabel("class")
    axes.set_ylabel("share")
    axes.yaxis.set_major_formatter(lambda share, _: percent(share))
    legend_above(axes, splits)
    return figure


SECTION = Section("The data", order=16, parts=_parts, key="data")
