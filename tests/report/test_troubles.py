"""A callback of the kit that broke is told of wherever a verdict is read."""

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.demos.boring_classes import BoringModel
from monitors.breaking import QUIET

from lightning_debugkit import GradientAnomalyDetector, GradientClippingMonitor
from lightning_debugkit.core.callback import DebugCallback
from lightning_debugkit.core.finding import Finding, Severity, Where
from lightning_debugkit.core.journal import Events, read_journal
from lightning_debugkit.report import render, summarize

Writer = Callable[..., Path]

RUN = {"kind": "run", "rank": 0, "callbacks": ["GradientAnomalyDetector", "ErrorAnalysis"]}
END = {"kind": "end", "status": "finished", "step": 22, "rank": 0}
FAULT = {
    "kind": "trouble",
    "callback": "GradientAnomalyDetector",
    "hook": "on_before_optimizer_step",
    "error": "ValueError: Expected a parent",
    "at": ["/site/lightning/helpers.py:60 in is_overridden", "/site/kit/sight.py:99 in see"],
    "step": 2,
    "rank": 0,
}
BROKEN = (
    "GradientAnomalyDetector stopped looking at step 2: ValueError: Expected a parent "
    "(this is a defect of the kit, please report it)"
)


def verdict(*said: Any) -> str:
    return summarize(Events({"v": 1, **(e.to_event() if isinstance(e, Finding) else e)} for e in said)).verdict


def later(step: int, **more: Any) -> dict[str, Any]:
    return {**FAULT, "step": step, **more}


def test_no_fault_is_found_by_those_alone_who_looked() -> None:
    said = verdict(RUN, FAULT, later(3), later(4), END)
    assert said == f"No fault found by ErrorAnalysis in 22 steps; {BROKEN}."


def test_where_all_broke_nothing_is_known() -> None:
    alone = {**RUN, "callbacks": ["GradientAnomalyDetector"]}
    assert verdict(alone, FAULT, later(3), later(4), END) == f"Nothing is known of the 22 steps; {BROKEN}."


def test_a_journal_that_does_not_name_its_callbacks_speaks_of_the_others() -> None:
    assert verdict(FAULT, later(3), later(4), END) == f"No fault found by the other callbacks in 22 steps; {BROKEN}."


def test_what_was_found_comes_before_what_broke() -> None:
    nan = Finding("nonfinite-loss", Severity.ERROR, "loss is nan", Where(0, 9))
    said = verdict(RUN, FAULT, later(3), later(4), nan, END)
    assert said == f"The run finished, but went wrong at step 9: loss is nan; {BROKEN}."


def test_a_callback_that_failed_once_is_a_remark_and_no_verdict() -> None:
    summary = summarize(Events({"v": 1, **event} for event in (RUN, FAULT, END)))
    assert summary.verdict == "No fault found in 22 steps."
    assert summary.remarks == (
        "GradientAnomalyDetector failed once at step 2, in on_before_optimizer_step: ValueError: Expected a parent, "
        "at sight.py:99 in see; what it would have found there is missing. "
        "This is a defect of the kit: please report it.",
    )


def test_three_hooks_that_failed_once_each_are_no_callback_that_stopped() -> None:
    hooks = [later(step, hook=name) for step, name in enumerate(("setup", "on_train_start", "on_fit_end"))]
    assert verdict(RUN, *hooks, END) == "No fault found in 22 steps."


def test_each_form_of_the_report_names_it_and_none_is_green(journal: Writer) -> None:
    folder = journal(RUN, FAULT, later(3), later(4), END)
    render(folder)
    told = json.loads((folder / "report.json").read_text())
    assert BROKEN in told["verdict"]
    assert "sight.py:99" in " ".join(told["remarks"])
    assert (folder / "report.md").read_text().startswith("# No fault found by ErrorAnalysis in 22 steps; Gradient")
    page = (folder / "report.html").read_text()
    assert BROKEN in page
    assert '<header class="well">' not in page


class Breaking(DebugCallback):
    """A callback of the kit with a defect."""

    def __init__(self) -> None:
        """Take no arguments."""

    def on_train_batch_end(self, *_args: Any) -> None:
        raise IndexError("tuple index out of range")


def fit(folder: Path, *callbacks: DebugCallback) -> None:
    trainer = L.Trainer(max_steps=5, callbacks=[*callbacks], default_root_dir=folder, **QUIET)
    torch.manual_seed(0)
    trainer.fit(BoringModel())


@pytest.mark.filterwarnings("ignore")
def test_the_console_says_so_and_names_who_looked_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="lightning_debugkit"):
        fit(tmp_path, Breaking(), GradientAnomalyDetector(), GradientClippingMonitor())
    assert (
        "No fault found by GradientAnomalyDetector, GradientClippingMonitor in 5 steps; "
        "Breaking stopped looking at step 1: IndexError: tuple index out of range" in caplog.text
    )


@pytest.mark.filterwarnings("ignore")
def test_a_second_fit_tells_of_the_faults_anew(tmp_path: Path) -> None:
    callback = Breaking()
    for folder in (tmp_path / "first", tmp_path / "second"):
        fit(folder, callback)
        assert len(read_journal(folder / "debugkit").of_kind("trouble")) == 3
