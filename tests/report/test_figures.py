"""What figures are made of: scales, rows, columns, marks; and that they leave the user's settings alone."""

import io
import math
import re
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import matplotlib as mpl
import numpy as np
import pytest

from lightning_debugkit.core.finding import Finding, Severity, Where
from lightning_debugkit.core.journal import Events, read_journal
from lightning_debugkit.report import summarize
from lightning_debugkit.report.curves import curves, draw_curves, is_logarithmic
from lightning_debugkit.report.figures import as_svg, axes_of, blank_figure, own_settings
from lightning_debugkit.report.heatmap import COLUMNS, chosen_rows, heatmap, narrowed
from lightning_debugkit.report.palette import PALETTE
from lightning_debugkit.report.rendering import compose
from lightning_debugkit.report.sections.gradients import faulty_rows
from lightning_debugkit.report.summary import Measure

Writer = Callable[..., Path]


@pytest.mark.parametrize(
    ("values", "logarithmic"),
    [([100.0, 1.0], True), ([2.0, 1.0], False), ([100.0, -1.0], False), ([100.0, 0.0], False), (["nan"], False)],
)
def test_decades_ask_for_a_log_scale(values: list[float], logarithmic: bool) -> None:
    assert is_logarithmic(curves([Measure(step, 0, value) for step, value in enumerate(values)])) is logarithmic


def test_a_tail_of_nan_is_within_the_axis() -> None:
    found = curves([Measure(step, 0, 1.0 if step < 5 else "nan") for step in range(20)])
    axes = axes_of(blank_figure(2.0))
    draw_curves(axes, found)
    assert axes.get_xlim()[1] >= 19
    assert [text.get_text() for text in axes.texts] == ["nan"]


def test_ranks_have_a_curve_each() -> None:
    assert [curve.label for curve in curves([Measure(0, 0, 1.0), Measure(0, 1, 2.0)], 2)] == ["rank 0", "rank 1"]


def test_one_broken_look_survives_the_narrowing_of_ten_thousand() -> None:
    points = [Measure(step, 0, {"a": 1.0, "b": "nan" if step == 7777 else 2.0}) for step in range(10_000)]
    points[1234] = Measure(1234, 0, {"a": 50.0, "b": 2.0})
    whole = heatmap(points)
    assert whole
    shown = narrowed(whole)
    assert shown.norms.shape == (2, COLUMNS)
    assert shown.is_nonfinite.sum(axis=1).tolist() == [0, 1]
    assert np.nanmax(shown.norms[0]) == 50.0
    assert shown.steps[int(np.argmax(shown.is_nonfinite[1]))] <= 7777


def test_norms_are_the_same_in_whatever_order_a_point_has_them() -> None:
    values: list[dict[str, Any]] = [{"a": 1.0, "b": "inf", "c": 0}, {"a": "nan", "b": 2.0, "c": 3}, {"a": 1.0}]
    turned = [values[0], *(dict(reversed(value.items())) for value in values[1:])]
    one, other = (heatmap([Measure(step, 0, value) for step, value in enumerate(held)]) for held in (values, turned))
    assert one is not None
    assert other is not None
    np.testing.assert_array_equal(one.norms, other.norms)
    assert one.is_nonfinite.tolist() == other.is_nonfinite.tolist() == [[0, 1, 0], [1, 0, 0], [0, 0, 0]]


def test_the_faulty_layer_and_the_extremes_are_among_the_chosen() -> None:
    norms: dict[str, float | str] = {f"layer.{row}": 1.0 for row in range(200)}
    norms |= {"layer.33": 1e6, "layer.34": 1e-9, "layer.35": "inf"}
    whole = heatmap([Measure(0, 0, norms)])
    assert whole
    kept = chosen_rows(whole, faulty=[101])
    assert len(kept) == 60
    assert kept == sorted(set(kept))
    assert {0, 33, 34, 35, 101, 199} <= set(kept)
    assert max(np.diff(kept)) <= 5


def test_more_faulty_layers_than_rows_still_fit() -> None:
    whole = heatmap([Measure(0, 0, {f"layer.{row}": 1.0 for row in range(200)})])
    assert whole
    assert chosen_rows(whole, faulty=list(range(100))) == list(range(60))


def test_a_module_accuses_its_parameters_and_not_its_namesakes() -> None:
    finding = Finding("a-rule", Severity.ERROR, "it broke", Where(0, 0, module="box"), {"parameters": ["head.bias"]})
    summary = summarize(Events([{"v": 1, **finding.to_event()}]))
    layers = ("box.weight", "boxer.weight", "head.weight", "head.bias", "box")
    assert faulty_rows(layers, summary) == [0, 3, 4]


def test_every_figure_has_text_that_is_text_and_no_style_of_its_own(rich: Path) -> None:
    figures = [figure for chapter in compose(summarize(read_journal(rich)), rich) for figure in chapter.figures]
    assert {"loss", "gradient-norms", "learning-rate"} == {figure.name for figure in figures}
    assert len({figure.name for figure in figures}) == len(figures)
    for figure in figures:
        assert len(figure.alt) > 20
        root = ET.fromstring(figure.svg)
        assert all("style" not in each.attrib and not each.tag.endswith("style") for each in root.iter())
        assert any("".join(each.itertext()) == "step" for each in root.iter() if each.tag.endswith("text"))
    assert "not finite in box.weight, box.bias" in next(each.alt for each in figures if each.name == "gradient-norms")


def test_settings_of_the_user_neither_matter_nor_change(rich: Path) -> None:
    with mpl.rc_context({"text.usetex": True, "figure.dpi": 7, "font.size": 50, "axes.grid": True, "savefig.dpi": 3}):
        before = dict(mpl.rcParams)
        theirs = compose(summarize(read_journal(rich)), rich)
        assert dict(mpl.rcParams) == before
    ours = compose(summarize(read_journal(rich)), rich)
    assert [each.svg for each in theirs[0].figures] == [each.svg for each in ours[0].figures]


def test_a_constant_rate_is_told_and_not_drawn(journal: Writer) -> None:
    place = {"kind": "measure", "name": "learning-rate", "value": {"Adam": 0.001}, "rank": 0}
    folder = journal({**place, "step": 0}, {**place, "step": 1})
    chapter = next(each for each in compose(summarize(read_journal(folder)), folder) if each.title == "Learning rate")
    assert [getattr(part, "text", None) for part in chapter.parts] == ["Constant: 0.001 (Adam)."]


@pytest.mark.parametrize("value", [math.nan, 0.0, 3.0, -1.0])
def test_a_single_point_is_drawn(journal: Writer, value: float) -> None:
    place = {"kind": "measure", "step": 0, "rank": 0}
    folder = journal(
        {**place, "name": "loss", "value": value},
        {**place, "name": "gradient-norms", "value": {"$a$": value}},
        {**place, "name": "learning-rate", "value": {"Adam": value}},
    )
    chapters = compose(summarize(read_journal(folder)), folder)
    problems = [part for chapter in chapters for part in chapter.parts if getattr(part, "is_problem", False)]
    assert problems == []
    assert {"loss", "gradient-norms"} <= {figure.name for chapter in chapters for figure in chapter.figures}


def test_figures_of_one_page_share_no_id(rich: Path) -> None:
    figures = [figure for chapter in compose(summarize(read_journal(rich)), rich) for figure in chapter.figures]
    ids = [each.get("id") for figure in figures for each in ET.fromstring(figure.svg).iter() if each.get("id")]
    assert len(ids) > 3
    assert len(set(ids)) == len(ids)


def test_text_of_users_stays_what_it_was() -> None:
    said = 'style="fill: red" <b> & $x^2$ \x00'
    written = io.StringIO()
    with own_settings():
        figure = blank_figure(2.0)
        axes_of(figure).set_xlabel(said)
        figure.savefig(written, format="svg")
    texts = ["".join(each.itertext()) for each in ET.fromstring(as_svg(written.getvalue(), "mine")).iter()]
    assert said.replace("\x00", "\ufffd") in texts


def test_text_has_the_size_and_weight_that_it_was_drawn_with() -> None:
    written = io.StringIO()
    with own_settings():
        figure = blank_figure(2.0)
        figure.text(0.5, 0.5, "mine", fontsize=9, fontweight="bold", fontstyle="italic")
        figure.savefig(written, format="svg")
    drawn = ET.fromstring(as_svg(written.getvalue(), "mine")).find(".//{*}text")
    # As a matplotlib before 3.10 writes it.
    older = ET.fromstring(
        as_svg("<svg width='1' height='1' viewBox='0'><text style=\"font: italic 700 9px 'A', 'B'\"/></svg>", "mine")
    )[0]
    assert drawn is not None
    for text in (drawn, older):
        assert [text.get(f"font-{name}") for name in ("style", "weight", "size")] == ["italic", "700", "9"]
        assert text.get("font") is None


def schemes() -> list[dict[str, str]]:
    """Return the page's variables, on a light page and on a dark one."""
    blocks = re.findall(
        r":root \{(.*?)\}", files("lightning_debugkit.report").joinpath("style.css").read_text(), re.DOTALL
    )
    light, dark = (dict(re.findall(r"(--[\w-]+): (#[0-9a-f]{6})", block)) for block in blocks[:2])
    return [light, light | dark]


def test_the_page_has_the_colours_of_figures() -> None:
    light, dark = schemes()
    assert {light[name]: name for name in PALETTE.variables.values()} == PALETTE.variables
    assert all(dark[name] != light[name] for name in PALETTE.variables.values())


def test_text_contrasts_with_its_ground() -> None:
    """WCAG AA: 4.5 to 1."""

    def luminance(color: str) -> float:
        channels = np.array([int(color[place : place + 2], 16) / 255 for place in (1, 3, 5)])
        linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
        return float(linear @ [0.2126, 0.7152, 0.0722])

    for scheme in schemes():
        ground = luminance(scheme["--background"]) + 0.05
        for name in PALETTE.variables.values():
            if name not in ("--background", "--line", "--zero"):
                light, dark = sorted((luminance(scheme[name]) + 0.05, ground), reverse=True)
                assert light / dark >= 4.5, (scheme["--background"], name)
