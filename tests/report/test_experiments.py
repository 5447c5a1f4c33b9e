"""The experiment log lists every run, however it ended, and breaks on none."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from lightning_debugkit.core.journal import Journal
from lightning_debugkit.report.experiments import (
    experiment_table,
    experiments,
    experiments_as_json,
    experiments_as_markdown,
    merged_experiments,
    of_reference,
)

START = {"kind": "run", "rank": 0, "world_size": 1, "versions": {}, "config": {}}
CODE = {"kind": "artifact", "step": 0, "name": "code", "commit": "abcdef1234", "dirty": True}
WARNED = {
    "kind": "finding", "rule": "x", "severity": "warning", "message": "hm", "advice": "",
    "where": {"epoch": 0, "step": 1, "rank": 0, "module": ""}, "evidence": {},
}  # fmt: skip


def run(folder: Path, started: str, *events: dict[str, Any]) -> Path:
    folder.mkdir(parents=True)
    for event in ({**START, "started": started}, *events):
        Journal(folder).append(event)
    return folder


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    run(
        tmp_path / "version_1" / "debugkit", "2026-06-02T10:00:00+00:00",
        {**CODE, "id": "run-2", "label": "e2", "note": "wider | deeper"}, WARNED,
        {
            "kind": "artifact", "step": 90, "name": "code-end", "checkpoints": ["/c/best.ckpt", "/c/last.ckpt"],
            "best": {"name": "val_loss", "value": 0.12345},
        },
        {"kind": "end", "step": 90, "status": "finished", "exception": None, "seconds": 3},
    )  # fmt: skip
    run(
        tmp_path / "version_0" / "debugkit", "2026-06-01T10:00:00+00:00", {**CODE, "id": "run-1", "dirty": False},
        {"kind": "end", "step": 7, "status": "exception", "exception": {"type": "ValueError", "message": "boom"}},
    )  # fmt: skip
    run(tmp_path / "version_2" / "debugkit", "2026-06-03T10:00:00+00:00")  # killed, and without a snapshot
    run(tmp_path / ".hidden" / "debugkit", "2026-06-04T10:00:00+00:00")
    return tmp_path


def test_runs_stand_in_the_order_they_began(runs: Path) -> None:
    told = experiments(runs)
    assert [(each.id, each.outcome, each.step) for each in told] == [
        ("run-1", "exception ValueError: boom", 7),
        ("run-2", "finished", 90),
        ("", "unfinished", 0),
    ]
    assert told[1].findings == {"warning": 1}
    assert told[1].best == "val_loss 0.1235"


def test_the_table_has_a_line_a_run(runs: Path) -> None:
    lines = experiment_table(experiments(runs)).splitlines()
    assert lines[0].split() == ["when", "run", "commit", "outcome", "best", "findings", "checkpoints", "note"]
    assert lines[2].split() == [
        *("2026-06-02", "10:00", "e2", "abcdef12+", "finished", "at", "step", "90", "val_loss", "0.1235"),
        *("1", "warning", "best.ckpt,", "last.ckpt", "wider", "|", "deeper"),
    ]
    assert len(lines) == 4


def test_an_outcome_is_cut_behind_a_word(tmp_path: Path) -> None:
    said = "loss is inf at step 22: log(0) in training_step, sample 29 of the batch"
    for length in range(95, 105):
        end = {"status": "exception", "exception": {"type": "E", "message": f"{'x' * (length - 70)} {said}"}}
        run(tmp_path / str(length) / "debugkit", "2026-06-01", {"kind": "end", "step": 22, **end})
    cells = [re.split(" {2,}", line)[3] for line in experiment_table(experiments(tmp_path)).splitlines()[1:]]
    assert all(cell.endswith("…") and len(cell) <= 100 for cell in cells)
    assert {cell.rstrip("…").split()[-1] for cell in cells} <= {*said.split(), "at"}


def test_markdown_keeps_a_bar_within_its_cell(runs: Path) -> None:
    lines = experiments_as_markdown(experiments(runs)).splitlines()
    assert lines[1] == "| " + " | ".join(["---"] * 8) + " |"
    assert lines[3].endswith("| wider \\| deeper |")


def test_json_comes_back(runs: Path) -> None:
    told = json.loads(experiments_as_json(experiments(runs)))
    assert [each["id"] for each in told] == ["run-1", "run-2", ""]
    assert told[1]["checkpoints"] == ["/c/best.ckpt", "/c/last.ckpt"]


def test_a_reference_tells_only_of_runs_whose_folders_are_gone(runs: Path) -> None:
    trailers = {
        "Debugkit-Outcome": "finished", "Debugkit-Step": "5", "Debugkit-Best": "val_acc 0.9",
        "Debugkit-Label": "e0", "Debugkit-Note": "the first", "Debugkit-Dirty": "yes",
        "Debugkit-Findings": "error=1 info=2", "Debugkit-Checkpoint": "a.ckpt b.ckpt",
    }  # fmt: skip
    gone = of_reference("run-0", "c" * 40, "2026-05-01T10:00:00+00:00", trailers)
    kept = of_reference("run-1", "c" * 40, "2026-06-01T10:00:00+00:00", {})
    told = merged_experiments(experiments(runs), [kept, gone])
    assert [each.id for each in told] == ["run-0", "run-1", "run-2", ""]
    assert (told[0].step, told[0].findings, told[0].checkpoints) == (5, {"error": 1, "info": 2}, ("a.ckpt", "b.ckpt"))
    assert (told[0].label, told[0].note, told[0].dirty) == ("e0", "the first", True)
    assert told[1].folder


def test_a_damaged_journal_is_a_run_that_says_little(tmp_path: Path) -> None:
    folder = run(
        tmp_path / "debugkit", "2026-06-01T10:00:00+00:00", {"kind": "artifact", "name": "code-end", "best": 3}
    )
    with (folder / "journal-0.jsonl").open("a") as file:
        file.write('{"v": 1, "kind": "end", "sta')
    (only,) = experiments(tmp_path)
    assert (only.outcome, only.best, only.checkpoints) == ("unfinished", "", ())
