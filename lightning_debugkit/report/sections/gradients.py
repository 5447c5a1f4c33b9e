"""How large the gradients were, layer by layer."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure as Canvas
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, MaxNLocator

from lightning_debugkit.finding import Finding, Severity
from lightning_debugkit.report.drawing import Look, axes_of, blank, mark_findings
from lightning_debugkit.report.heatmap import Heatmap, chosen_rows, edges, heatmap, narrowed
from lightning_debugkit.report.parts import Drawing, Paragraph, Section
from lightning_debugkit.report.summary import Summary
from lightning_debugkit.report.wording import as_list, as_mapping, plural, tail


def _claims(finding: Finding) -> bool:
    return {"gradient", "gradients"} & set(finding.rule.split("-")) != set()


def _parts(summary: Summary, _folder: Path) -> Iterator[Drawing | Paragraph]:
    for point in summary.measures.get("gradients-unseen", ())[:1]:
        yield Paragraph(f"Not seen: {as_mapping(point.value).get('why', 'the model lies in parts')}.")
    points = summary.measures.get("gradient-norms", ())
    # Replicas share their gradients: one rank is enough, the one with most to tell.
    ranks = [point.rank for point in points]
    best = max(sorted(set(ranks)), key=ranks.count, default=0)
    ordered = sorted((point for point in points if point.rank == best), key=lambda point: point.step)
    whole = heatmap(ordered)
    if whole is None:
        return
    faulty = faulty_rows(whole.layers, summary)
    kept = chosen_rows(whole, faulty)
    shown = narrowed(whole.rows(kept))
    marked = {kept.index(row) for row in faulty if row in kept}
    caption = "Layers from top to bottom, in the order they are registered; colour is log10 of the norm."
    if len(kept) < len(whole.layers):
        caption += f" {len(kept)} of {len(whole.layers)} parameters are shown: faulty ones, extremes, an even spread."
    draw = partial(_draw, shown, marked, summary)
    yield Drawing("gradient-norms", "Gradient norms by layer", _alt(whole, marked, shown), draw, caption)


def faulty_rows(layers: tuple[str, ...], summary: Summary) -> list[int]:
    """Return the rows that an error or warning points to, by the name of the parameter or of its module."""
    names: dict[str, None] = {}
    for told in summary.of(Severity.ERROR, Severity.WARNING):
        accused = [told.finding.where.module, *map(str, as_list(told.finding.evidence.get("parameters")))]
        names.update(dict.fromkeys(filter(None, accused)))
    return [
        row for row, layer in enumerate(layers) if any(layer == name or layer.startswith(f"{name}.") for name in names)
    ]


def _alt(whole: Heatmap, marked: set[int], shown: Heatmap) -> str:
    said = f"Gradient norms of {plural(len(whole.layers), 'parameter')} over {plural(whole.steps.size, 'look')}"
    broken = [whole.layers[row] for row in np.flatnonzero(whole.is_nonfinite.any(axis=1))]
    if broken:
        said += f"; not finite in {', '.join(broken[:3])}" + (f" and {len(broken) - 3} more" if broken[3:] else "")
    if marked:
        said += f"; marked as faulty: {', '.join(shown.layers[row] for row in sorted(marked)[:3])}"
    return said + "."


def _draw(shown: Heatmap, marked: set[int], summary: Summary, look: Look) -> Canvas:
    count = len(shown.layers)
    figure = blank(look, 1.3 + 0.155 * max(count, 4))
    axes = axes_of(figure, look, grid=False)
    _paint(axes, figure, shown, look)
    axes.invert_yaxis()
    axes.set_yticks(np.arange(count) + 0.5)
    names = [tail(layer, 18 if look.is_narrow else 36) for layer in shown.layers]
    labels = axes.set_yticklabels(
        [f"▶ {name}" if row in marked else name for row, name in enumerate(names)], fontsize=7
    )
    for row in marked:
        labels[row].set(color=look.error, fontweight="bold")
    axes.tick_params(axis="y", length=0)
    axes.xaxis.set_major_locator(MaxNLocator(5 if look.is_narrow else 8, integer=True))
    axes.set_xlabel("step", fontsize=9)
    mark_findings(axes, summary, look)
    return figure


def _paint(axes: Axes, figure: Canvas, shown: Heatmap, look: Look) -> None:
    borders = edges(shown.steps), np.arange(len(shown.layers) + 1)
    positive = shown.norms > 0
    is_zero = shown.norms == 0
    if positive.any():
        scaled = np.log10(np.where(positive, shown.norms, np.nan))
        low, high = float(np.nanmin(scaled)), float(np.nanmax(scaled))
        # One value alone still needs a range to have a colour.
        high = high if high > low else low + 1.0
        mesh = axes.pcolormesh(
            *borders,
            np.ma.masked_invalid(scaled),
            cmap="viridis",
            vmin=low,
            vmax=high,
        )
        bar = figure.colorbar(mesh, ax=axes, shrink=0.8, pad=0.01, aspect=30)
        bar.ax.yaxis.set_major_locator(MaxNLocator(5, integer=high - low > 3))
        bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda power, _: f"{float(f'{10.0**power:.2g}'):g}"))
        bar.ax.tick_params(colors=look.ink, labelsize=8, color=look.faint)
        bar.outline.set_visible(False)
    for where, color in ((is_zero, look.zero), (shown.is_nonfinite, look.error)):
        if where.any():
            axes.pcolormesh(*borders, np.ma.masked_equal(where.astype(float), 0.0), cmap=ListedColormap([color]))
    named = ((shown.is_nonfinite, look.error, "not finite"), (is_zero, look.zero, "exactly zero"))
    patches = [Patch(color=color, label=label) for where, color, label in named if where.any()]
    if patches:
        legend = figure.legend(handles=patches, loc="outside lower right", fontsize=8, frameon=False, ncols=2)
        for text in legend.get_texts():
            text.set_color(look.ink)


SECTION = Section("Gradients", order=20, parts=_parts, claims=_claims)
