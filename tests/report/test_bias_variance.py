"""The section on what limits a model, from a journal alone: whole, of a killed run, and with numbers that are none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from matplotlib.patches import Rectangle

from lightning_debugkit.core.finding import Finding, Severity, Where
from lightning_debugkit.core.journal import Journal
from lightning_debugkit.report import render
from lightning_debugkit.report.stacked_bar import draw_stack, stack

ERRORS = {"train": (0.2, 0.17, 0.23), "val": (0.27, 0.24, 0.3), "test": (0.25, 0.22, 0.28)}
ROWS = [("avoidable_bias", "goal", "train"), ("variance", "train", "val"), ("validation_overfitting", "val", "test")]


def analysis(**changed: Any) -> dict[str, Any]:
    return {
        "metric": "error",
        "goal": 0.01,
        "start": 0.01,
        "is_rate": True,
        "errors": {n: {"value": v, "low": low, "high": high, "n": 1000} for n, (v, low, high) in ERRORS.items()},
        "rows": [{"name": n, "from": f, "to": t, "text": "7 points (3 to 11)", "side": "above"} for n, f, t in ROWS],
        "shown": dict.fromkeys(ERRORS, "20 % (17 to 23)"),
        "verdict": "underfitting: training error is 19 points worse than the goal",
        "speaks_of": "the weights that were tested",
        "next": ["Make the model larger.", "Tune hyper-parameters."],
        "notes": ["Variance holds any shift."],
        **changed,
    }


def journal(folder: Path, *events: dict[str, Any], ended: bool = True) -> str:
    """Write a journal and return the Markdown that is rendered from it."""
    writer = Journal(folder)
    writer.append({"kind": "run", "rank": 0, "world_size": 1})
    for event in events:
        writer.append({"kind": "measure", "epoch": 0, "rank": 0, "step": 0, **event})
    if ended:
        writer.append({"kind": "end", "rank": 0, "step": 9, "status": "finished"})
    render(folder)
    return (folder / "report.md").read_text()


def test_the_verdict_the_parts_and_the_advice_are_in_the_report(tmp_path: Path) -> None:
    text = journal(tmp_path, {"name": "bias-variance", "value": analysis()})
    assert "<b>Bias and variance</b>" in text
    assert "Underfitting: training error is 19 points worse than the goal." in text
    assert (
        "avoidable bias from 1 % to 20 %, variance from 20 % to 27 %, validation overfitting from 27 % to 25 %" in text
    )
    assert "| variance | training to validation | 7 points (3 to 11) | **beyond doubt** |" in text
    assert "| 2 | Tune hyper-parameters. |" in text
    assert (tmp_path / "figures" / "bias-variance.svg").stat().st_size > 5000
    assert "could not be" not in text


@pytest.mark.parametrize(("advice", "shown"), [("Make the model larger.", False), ("Look at the data.", True)])
def test_what_a_finding_advises_is_not_told_again(advice: str, shown: bool, tmp_path: Path) -> None:
    limits = Finding("underfitting", Severity.INFO, "it underfits", Where(0, 9), {}, advice)
    Journal(tmp_path).append(limits.to_event())
    text = journal(tmp_path, {"name": "bias-variance", "value": analysis(next=["Make the model larger."])})
    assert ("What to try next" in text) == shown


def test_the_last_analysis_counts(tmp_path: Path) -> None:
    events = [{"name": "bias-variance", "value": analysis(verdict=verdict)} for verdict in ("old", "new")]
    text = journal(tmp_path, *events)
    assert ("New." in text, "Old." in text) == (True, False)


def test_a_killed_run_shows_its_errors_by_epoch(tmp_path: Path) -> None:
    points = [
        {"name": "bias-variance-errors", "step": 10 * e, "value": {"epoch": e, "train": 0.3 - e / 20, "val": 0.3}}
        for e in range(4)
    ]
    text = journal(tmp_path, *points, ended=False)
    assert "training from 0.3 to 0.15; validation from 0.3 to 0.3" in text
    assert (tmp_path / "figures" / "bias-variance-epochs.svg").exists()


@pytest.mark.parametrize(
    "value",
    [
        analysis(errors={"val": {"value": "nan", "low": "nan", "high": "nan", "n": 3}}),
        analysis(rows=[{"name": "variance", "from": "train", "to": "nowhere"}], goal=None, start=None),
        analysis(errors={}, rows=[], shown={}, next=[], notes=[]),
        {"verdict": "cannot tell: no error could be measured"},
        {"errors": 3, "rows": "none", "next": 7, "notes": None},
        "not a mapping",
    ],
)
def test_numbers_that_are_none_and_foreign_values_do_not_break_the_report(value: Any, tmp_path: Path) -> None:
    text = journal(tmp_path, {"name": "bias-variance", "value": value})
    assert "could not be" not in text
    assert not (tmp_path / "figures" / "bias-variance.svg").exists()


def test_the_bar_is_made_of_the_parts_and_what_gets_better_goes_back() -> None:
    found = stack(analysis())
    assert found is not None
    figure = draw_stack(found)
    bars = [patch for patch in figure.axes[0].patches if isinstance(patch, Rectangle)]
    ends = [(round(bar.get_x(), 6), round(bar.get_x() + bar.get_width(), 6), bar.get_hatch()) for bar in bars]
    assert ends == [(0.0, 0.01, None), (0.01, 0.2, None), (0.2, 0.27, None), (0.27, 0.25, "////")]


def test_without_a_goal_avoidable_bias_is_an_upper_bound() -> None:
    found = stack(analysis(goal=None, start=0.0))
    assert found is not None
    legend = draw_stack(found).axes[0].get_legend()
    assert legend is not None
    assert legend.get_texts()[0].get_text() == "avoidable bias, at most"


def test_without_a_goal_the_distance_to_the_best_is_no_finding(tmp_path: Path) -> None:
    text = journal(tmp_path, {"name": "bias-variance", "value": analysis(goal=None, start=0.0)})
    assert "| avoidable bias | goal to training | 7 points (3 to 11) | at most: no goal is stated |" in text
    assert "| variance | training to validation | 7 points (3 to 11) | **beyond doubt** |" in text
