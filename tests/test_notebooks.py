"""The notebooks tell what really happens: each is executed from its first cell to its last, and comes to its point."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import pytest
import warm_process

nbclient = pytest.importorskip("nbclient")

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))


def breaks_again(told: list[str]) -> None:
    printed = "".join(told)
    assert "log(0) in training_step" in printed
    assert "The step broke again, in the same place." in printed


def four_stories_and_a_silence(told: list[str]) -> None:
    lines = [line for line in "".join(told).splitlines() if "verdict:" in line]
    assert [line.removeprefix("verdict:").split(":")[0].strip() for line in lines] == [
        "underfitting",
        "overfitting",
        "distribution shift",
        "validation overfitting",
        "cannot tell yet",
    ]


def scanner_labels_and_the_class_that_nobody_taught(told: list[str]) -> None:
    rules = [re.findall(r"^- ([\w-]+):", text, re.MULTILINE) for text in told if "% right (" in text]
    assert [("weak-slice" in found, "label-issue" in found) for found in rules[:3]] == [
        (True, True),
        (False, True),
        (False, False),
    ]
    assert "class-never-predicted" in rules[3]
    assert "{'scanner': 'east'}: 87% wrong of 125" in "".join(told)
    counts = re.search(r"(\d+) suspects; (\d+) .* the (\d+) slips", "".join(told))
    assert counts is not None
    suspects, found, slips = map(int, counts.groups())
    assert found / slips > 0.9
    assert found / suspects > 0.9


def one_fold_of_nineteen(told: list[str]) -> None:
    printed = "".join(told)
    assert "lines in the index: 11" in printed
    assert "nonfinite-input: loss is nan at step 0" in printed
    assert "the day: ['2007-05-25']" in printed
    assert printed.count("No fault found") == 2


def two_mistakes_and_a_silence(told: list[str]) -> None:
    printed = "".join(told)
    for rule in ("double-softmax", "near-duplicates", "cannot-overfit-batch"):
        assert re.search(rf"^{rule}: ", printed, re.MULTILINE)
    assert "[]\n" in told
    assert "A part of the dataset's classes is used: class 0 is 3 of the whole dataset" in printed
    assert "the network, as logged (val_acc)" in printed


def the_same_weights_from_another_machine(told: list[str]) -> None:
    printed = "".join(told)
    assert "status 137" in printed
    assert "# changed   reading.py (model)" in printed
    (resumed,) = re.findall(r"^\.\./resumed (\w{16})$", printed, re.MULTILINE)
    assert f"../undisturbed {resumed}\n" in printed
    assert printed.endswith("[]\n[(1, 100)]\n")


def one_message_and_a_quiet_night(told: list[str]) -> None:
    printed = "".join(told)
    assert "error at step 36: loss is nan at step 36: batch[0] holds nan" in printed
    assert "[('36', '30.0')]" in printed
    assert "entry [1234] of 1797" in printed
    assert "0 messages; No fault found in 135 steps." in printed
    assert "135 steps; not sent: [\"on_finding='to_chat'\"]" in printed


POINTS: dict[str, Callable[[list[str]], None]] = {
    "01": breaks_again,
    "05": four_stories_and_a_silence,
    "06": scanner_labels_and_the_class_that_nobody_taught,
    "08": two_mistakes_and_a_silence,
    "09": one_fold_of_nineteen,
    "10": the_same_weights_from_another_machine,
    "11": one_message_and_a_quiet_night,
}


def told_by(notebook: Any) -> list[str]:
    """Return what each cell has printed."""
    return [
        "".join(out.get("text", "") for out in cell.get("outputs", []) if out.output_type == "stream")
        for cell in notebook.cells
    ]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_committed_with_what_it_shows(path: Path) -> None:
    """`python notebooks/execute.py` writes the outputs; they are those of a whole run, small and of no one machine."""
    notebook = nbformat.read(path, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert sum(bool(cell.outputs) for cell in code) > len(code) / 3
    assert path.stat().st_size < 400_000
    assert not re.search(r"/tmp/|/home/|/work/|/root/|[A-Z]:\\\\Users", path.read_text())
    if (point := POINTS.get(path.stem[:2])) is not None:
        point(told_by(notebook))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", warm_process.python())
    monkeypatch.setenv("MPLBACKEND", "module://matplotlib_inline.backend_inline")  # as the kernel says before it draws
    notebook = nbformat.read(path, as_version=4)
    nbclient.NotebookClient(notebook, timeout=280, resources={"metadata": {"path": str(tmp_path)}}).execute()
    if (point := POINTS.get(path.stem[:2])) is not None:
        point(told_by(notebook))
