"""Scripts whose other processes Lightning starts: every callback at once, no hang, nothing counted or said twice."""

from __future__ import annotations

import csv
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import warm_process

from lightning_debugkit import Severity, read_journal
from lightning_debugkit.core.journal import Events
from lightning_debugkit.report import summarize

PROGRAM = Path(__file__).with_name("launched_program.py")
VALIDATION = 41  # no multiple of two processes: one sample is repeated, and must count once
pytestmark = pytest.mark.timeout(240)


class Job:
    """What a script left behind.

    Args:
        folder: A folder for each of its fits.
        strategy: Who starts the second process.
        fits: Those that it made, in turn.
    """

    def __init__(self, folder: Path, strategy: str, *fits: str) -> None:
        self.folder = folder
        here = os.pathsep.join(map(str, (PROGRAM.parent, PROGRAM.parents[1])))
        done = subprocess.run(
            [warm_process.python(), PROGRAM, strategy, folder, *fits],
            env={**os.environ, "PYTHONPATH": here, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            timeout=200,
        )
        self.failed = done.returncode != 0
        self.said = done.stderr

    def events(self, fit: str) -> Events:
        (folder,) = (self.folder / fit).glob("debugkit*")
        return read_journal(folder)

    def rules(self, fit: str) -> list[tuple[str, int]]:
        found = [each for each in self.events(fit).findings if each.severity >= Severity.WARNING]
        return [(each.rule, each.where.rank) for each in found]

    def ranks(self, fit: str) -> list[Any]:
        return [json.loads((self.folder / fit / f"rank-{rank}.json").read_text()) for rank in (0, 1)]

    def given(self, fit: str, rank: int) -> list[str]:
        path = self.folder / fit / f"given-{rank}.txt"
        return path.read_text().split() if path.exists() else []

    def reports(self, fit: str) -> int:
        return len(list((self.folder / fit).rglob("report.html")))

    def counted(self, fit: str) -> tuple[int, int]:
        folder = self.folder / fit / "debugkit"
        errors = json.loads((folder / "errors.json").read_text())
        parts = json.loads((folder / "bias_variance.json").read_text())
        return errors["n"], parts["errors"]["val"]["n"]


@pytest.fixture(scope="module")
def ddp(tmp_path_factory: pytest.TempPathFactory) -> Job:
    return Job(tmp_path_factory.mktemp("ddp"), "ddp", "bare", "healthy", "resumed", "softmax", "nan", "raises")


@pytest.fixture(scope="module")
def spawned(tmp_path_factory: pytest.TempPathFactory) -> Job:
    return Job(tmp_path_factory.mktemp("spawned"), "ddp_spawn", "raises")


def test_a_healthy_fit_and_its_resumption_end_with_the_weights_of_a_bare_one(ddp: Job) -> None:
    bare, resumed = ddp.ranks("bare"), ddp.ranks("resumed")
    assert resumed == bare
    assert [rank["steps"] for rank in resumed] == [118, 118]
    assert ddp.ranks("healthy") != bare
    for fit in ("healthy", "resumed"):
        assert ddp.rules(fit) == []
        assert ddp.events(fit).of_kind("trouble") == []
        assert sorted((end["rank"], end["status"]) for end in ddp.events(fit).of_kind("end")) == [
            (0, "finished"),
            (1, "finished"),
        ]
    assert sorted((each["rank"], each["step"]) for each in ddp.events("resumed").of_kind("resume")) == [
        (0, 59),
        (1, 59),
    ]


@pytest.mark.parametrize("fit", ["healthy", "resumed", "softmax"])
def test_each_sample_counts_once(ddp: Job, fit: str) -> None:
    assert ddp.counted(fit) == (VALIDATION, VALIDATION)


def test_a_fault_of_the_program_is_told_once_on_terminal_and_in_logger_and_to_each_function(ddp: Job) -> None:
    assert ddp.rules("softmax") == [("double-softmax", 0), ("double-softmax", 1)]
    assert [told.ranks for told in summarize(ddp.events("softmax")).findings] == [(0, 1)]
    assert ddp.said.count("warning double-softmax: ") == 1
    assert [ddp.given("softmax", rank) for rank in (0, 1)] == [["double-softmax"], ["double-softmax"]]
    with (ddp.folder / "softmax/metrics.csv").open() as file:
        assert [told for row in csv.DictReader(file) if (told := row["debugkit/double-softmax"])] == ["20.0"]
    assert ddp.reports("softmax") == 1


def test_a_fault_on_one_rank_is_its_own_and_said_at_once(ddp: Job) -> None:
    """Its weights are NaN thereafter, those of the others too: validation and scores have no other cause."""
    assert ddp.rules("nan") == [("nonfinite-loss", 1)]
    assert ddp.given("nan", 1)[0] == "nonfinite-loss"
    assert "nonfinite-loss" not in ddp.given("nan", 0)
    assert ddp.said.count(" nonfinite-loss: ") == 1
    assert ddp.reports("nan") == 1
    assert ddp.events("nan").of_kind("trouble") == []


@pytest.mark.parametrize("launcher", ["ddp", "spawned"])
def test_an_exception_of_one_rank_ends_all_and_the_one_report_names_it(
    launcher: str, request: pytest.FixtureRequest
) -> None:
    job = request.getfixturevalue(launcher)
    assert job.failed
    assert sorted((end["rank"], end["status"]) for end in job.events("raises").of_kind("end")) == [
        (0, "exception"),
        (1, "exception"),
    ]
    ending = "The run ended with an exception at step 79: KeyError: 'a sample without a label'."
    assert summarize(job.events("raises")).verdict == ending
    assert job.said.count("lightning-debugkit: The run ended with an exception") == 1
    assert job.reports("raises") == 1
    assert ending.replace("'", "&#39;") in next((job.folder / "raises").rglob("report.html")).read_text()
    assert job.counted("raises")[0] == VALIDATION
    names = {path.name for path in (job.folder / "checkpoints/raises").glob("*.ckpt")}
    assert {"best.ckpt", "last.ckpt"} < names
