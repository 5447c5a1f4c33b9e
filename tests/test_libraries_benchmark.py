"""The comparison of real libraries with and without the kit says what it saw, on Lightning itself."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.libraries.__main__ import run_programs
from benchmarks.libraries.comparison import compare
from benchmarks.libraries.environment import Environment, NotInstalled
from benchmarks.libraries.library import Library, Program
from benchmarks.libraries.page import page
from lightning_debugkit import Finding, Severity
from lightning_debugkit.core.finding import Where

BARE = {"ended": "finished", "weights": {"0.w": "a"}, "random": {"torch": "r"}, "cpu_seconds": 1.0}


def finding(rule: str, severity: str = "warning", can_follow: tuple[str, ...] = ()) -> dict[str, Any]:
    return Finding(rule, Severity.parse(severity), "seen", Where(0, 0), can_follow=can_follow).to_event()


def healthy(**true: str) -> Program:
    library = Library("made-up", ())
    library.training(**true)(lambda: None)
    return library.programs["<lambda>"]


def row_of(kit: dict[str, Any], program: Program | None = None, again: dict[str, Any] | None = None) -> Any:
    return compare("made-up", program or healthy(), "standard", BARE, again, {**BARE, "runs": 1, **kit})


def test_one_weight_that_differs_is_told() -> None:
    assert row_of({}).is_same
    assert not row_of({"weights": {"0.w": "b"}}).is_same
    assert not row_of({"random": {"torch": "s"}}).is_same
    assert not row_of({"ended": "ValueError"}).is_same


def test_a_library_that_does_not_repeat_itself_is_known() -> None:
    row = row_of({"weights": {"0.w": "b"}}, again={**BARE, "weights": {"0.w": "c"}})
    assert not row.repeatable


def test_what_is_declared_true_is_no_accusation() -> None:
    kit = {"findings": [finding("no-gradient"), finding("dead-units"), finding("clipping-never", "info")]}
    row = row_of(kit, healthy(no_gradient="read in its code"))
    assert (row.true, row.accusations) == (["no-gradient: seen"], ["dead-units: seen"])


@pytest.mark.parametrize(
    ("findings", "named"),
    [
        ([finding("nonfinite-input", "error")], True),
        ([finding("input-not-normalized"), finding("nonfinite-input", "error")], True),
        ([finding("nonfinite-loss", "error"), finding("nonfinite-input", "error")], False),
        ([finding("diverging-loss", can_follow=("nonfinite-input",)), finding("nonfinite-input")], True),
        ([], False),
    ],
)
def test_a_fault_is_named_by_the_first_finding_or_the_reports(findings: list[dict[str, Any]], named: bool) -> None:
    program = Program("fault", lambda: None, frozenset({"nonfinite-input"}))
    assert row_of({"findings": findings}, program).named is named


def test_lightning_alone_is_watched_and_not_changed(tmp_path: Path) -> None:
    """In the environment of the tests: a control of the whole way, from the child to the page."""
    options = argparse.Namespace(program=None, preset=["standard"], work=tmp_path, timeout=240)
    environment = Environment(Path(sys.prefix))
    rows = list(run_programs("lightning", environment, options))
    well, fault = rows
    assert (well.is_same, well.fits, well.accusations, well.troubles) == (True, 1, [], [])
    assert fault.named
    assert fault.ended == "TrainingAnomaly"
    result = {"package": "lightning", "versions": {"lightning": "2"}, "rows": [row.as_dict() for row in rows]}
    results = {"lightning": result, "gone": {**result, "rows": [], "not_installed": "no such release"}}
    text = page(results, ["lightning", "gone", "later"])
    assert "also has later." in text
    assert "| lightning digits | standard | yes |" in text
    assert "- gone: no such release" in text


def test_what_cannot_be_installed_is_an_answer() -> None:
    with pytest.raises(NotInstalled, match="/no/such/torch"):
        Environment(Path(sys.prefix)).make([], "/no/such/torch", 100)
