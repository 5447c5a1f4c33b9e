"""What gradient clipping did: norms and threshold, how often and how much it cut, which layers held the norm."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from lightning_debugkit.core.name_lists import percent, plural
from lightning_debugkit.report.curves import curves, draw_curves
from lightning_debugkit.report.figures import blank_figure, calm, legend_above, legend_height, mark_findings, room
from lightning_debugkit.report.number_formats import as_int, as_list, as_mapping, as_number, tail
from lightning_debugkit.report.palette import PALETTE
from lightning_debugkit.report.parts import Drawing, Paragraph, Section
from lightning_debugkit.report.summary import Measure, Summary

_LAYERS = 8
_BINS = 24
_NORMS = ("norm", "threshold")
_WAYS = {
    "norm": "clipped by norm",
    "value": "clipped by value",
    "module": "clipped by the module's own means",
    "nothing": "not clipped",
}


def _parts(summary: Summary, _folder: Path) -> Iterator[Drawing | Paragraph]:
    for point in summary.points("clipping-unseen")[:1]:
        yield Paragraph(f"Not seen: {as_mapping(point.value).get('why', 'the strategy clips by itself')}.")
    points = [point for point in summary.points("clipping") if as_mapping(point.value)]
    for position, (name, counts) in enumerate(_counts(summary).items()):
        mine = [point for point in points if point.value.get("optimizer") == name]
        yield Paragraph(_told(name, counts))
        ending = f"-{position}" if position else ""
        if len(mine) > 1:
            alt = f"Gradient norm of {name} over steps. {_share_told(counts)}"
            draw = partial(_draw_norms, mine, summary)
            yield Drawing(f"clipping-norms{ending}", f"Gradient norm before clipping: {name}", alt, draw)
        if as_int(counts.get("clipped")):
            layers = _largest(as_mapping(counts.get("layers")))
            yield Drawing(
                f"clipping-coefficients{ending}",
                f"How much was cut, and from which layers: {name}",
                _alt(layers),
                partial(_draw_counts, counts, layers),
                "Above: clipped steps by the coefficient their gradients were multiplied by. "
                "Below: mean share of the squared norm that each layer held when it was clipped.",
            )


def _counts(summary: Summary) -> dict[str, Mapping[str, Any]]:
    """Return the last counts of each optimizer."""
    found = [as_mapping(point.value) for point in summary.points("clipping-counts")]
    return {str(value.get("optimizer", "")): value for value in found}


def _told(name: str, counts: Mapping[str, Any]) -> str:
    ways = as_mapping(counts.get("by"))
    main = max(ways, key=lambda way: as_int(ways[way]), default="nothing")
    if set(ways) <= {"nothing"}:
        return f"{name}: {plural(as_int(counts.get('steps')), 'step')}, none of them clipped."
    exact = as_int(counts.get("exact"))
    how = "exact, as the clipping itself computed them" if exact else "measured before and after, on sampled steps"
    return f"{name}: {_WAYS.get(main, 'clipped')}. {_share_told(counts)} Norms are {how}."


def _share_told(counts: Mapping[str, Any]) -> str:
    steps, clipped = as_int(counts.get("steps")), as_int(counts.get("clipped"))
    return f"{clipped} of {plural(steps, 'step')} seen were cut ({percent(clipped / steps, 0)})." if steps else ""


def _alt(layers: Sequence[tuple[str, float]]) -> str:
    held = ", ".join(f"{name} {percent(share)}" for name, share in layers[:3])
    return "Histogram of clip coefficients" + (f"; the norm was held by {held}." if held else ".")


def _largest(layers: Mapping[str, Any]) -> list[tuple[str, float]]:
    known = [(str(name), as_number(share) or 0.0) for name, share in layers.items()]
    return sorted(known, key=lambda pair: -pair[1])[:_LAYERS]


def _draw_norms(points: Sequence[Measure], summary: Summary) -> Canvas:
    cut = [point for point in points if point.value.get("threshold") is not None]
    is_cut = any(point.value.get("by") != "nothing" for point in points)
    norms = curves([Measure(point.step, 0, {"norm": point.value.get("norm")}) for point in points])
    told = curves([Measure(point.step, 0, {"threshold": point.value["threshold"]}) for point in cut])
    top = 0.3 + (legend_height(_NORMS) if told else 0.0)
    figure = blank_figure((3.4 if is_cut else 2.3) + top, top=top)
    panels = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1)) if is_cut else [figure.subplots()]
    axes = calm(panels[0])
    draw_curves(axes, norms)
    for curve in told:
        axes.plot(curve.steps, curve.values, color=PALETTE.warning, linewidth=1.2, linestyle="--", label="threshold")
        legend_above(axes, _NORMS, lift=0.15)
    axes.set_ylabel("norm")
    mark_findings(axes, summary)
    if is_cut:
        _draw_share(calm(panels[1]), points)
    panels[-1].set_xlabel("step")
    return figure


def _draw_share(axes: Axes, points: Sequence[Measure]) -> None:
    """Draw the share of clipped steps in equal parts of the run."""
    steps = np.array([point.step for point in points], dtype=float)
    cut = np.array([_is_cut(point.value) for point in points], dtype=float)
    borders = np.linspace(steps.min(), steps.max() + 1, min(_BINS, max(1, steps.size // 4)) + 1)
    seen, _ = np.histogram(steps, borders)
    held, _ = np.histogram(steps, borders, weights=cut)
    axes.stairs(
        np.where(seen > 0, held / np.maximum(seen, 1), 0.0), borders, fill=True, color=PALETTE.series[0], alpha=0.7
    )
    axes.set_ylim(0, 1.02)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda share, _: percent(share)))
    axes.set_ylabel("clipped")


def _is_cut(value: Mapping[str, Any]) -> bool:
    norm, after = as_number(value.get("norm")), as_number(value.get("after"))
    return value.get("by") != "nothing" and norm is not None and after is not None and after < norm * (1 - 1e-4)


def _draw_counts(counts: Mapping[str, Any], layers: Sequence[tuple[str, float]]) -> Canvas:
    below = 0.75 + 0.21 * len(layers) if layers else 0.0
    names = [tail(name, 30) for name, _ in layers]
    figure = blank_figure(2.2 + below, left=max(0.95, room(names, 8) + 0.1), top=0.1)
    if layers:
        upper, lower = figure.subplots(2, 1, height_ratios=(1.55, below - 0.55), gridspec_kw={"hspace": 0.55})
        _draw_layers(calm(lower, grid=False), layers, names)
    else:
        upper = figure.subplots()
    _draw_histogram(calm(upper), counts)
    return figure


def _draw_histogram(axes: Axes, counts: Mapping[str, Any]) -> None:
    edges = np.array([as_number(edge) or 0.0 for edge in as_list(counts.get("edges"))])
    held = np.array([as_int(count) for count in as_list(counts.get("counts"))])
    axes.stairs(held, edges, fill=True, color=PALETTE.series[0])
    filled = np.flatnonzero(held)
    axes.set_xscale("log")
    axes.set_xlim(min(0.1, float(edges[filled[0]]) / 2) if filled.size else 0.1, 1.0)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.set_xlabel("coefficient")
    axes.set_ylabel("steps")


def _draw_layers(axes: Axes, layers: Sequence[tuple[str, float]], names: Sequence[str]) -> None:
    shares = [share for _, share in layers]
    rows = np.arange(len(layers))
    axes.barh(rows, shares, color=PALETTE.series[0])
    for row, share in zip(rows, shares, strict=True):
        axes.annotate(
            percent(share), (share, row), xytext=(3, 0), textcoords="offset points",
            va="center", fontsize=8, color=PALETTE.ink,
        )  # fmt: skip
    axes.set_yticks(rows, names, fontsize=8)
    axes.invert_yaxis()
    axes.set_xlim(0, max(shares) * 1.2 if shares else 1)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda share, _: percent(share)))
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.set_xlabel("share of the squared norm")


SECTION = Section("Gradient clipping", order=25, parts=_parts, key="clipping")
