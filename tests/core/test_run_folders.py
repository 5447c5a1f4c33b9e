"""Each run has a place of its own; many short ones share an index and can have their folders back."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from lightning_debugkit import cli
from lightning_debugkit.core.journal import Journal, read_journal
from lightning_debugkit.core.run_folders import INDEX, claim, fold, folded, unfold
from lightning_debugkit.report.experiments import experiments, newest


def short(base: Path, started: str) -> Path:
    folder = claim(base)
    Journal(folder).append({"kind": "run", "rank": 0, "started": started})
    Journal(folder).append({"kind": "end", "rank": 0, "step": 4, "status": "finished", "steps": 4})
    return folder


def test_two_claims_of_one_moment_are_two_folders(tmp_path: Path) -> None:
    claimed: list[Path] = []
    gate = threading.Barrier(8)

    def one() -> None:
        gate.wait()
        claimed.append(claim(tmp_path))

    threads = [threading.Thread(target=one) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(path.name for path in claimed) == ["debugkit", *(f"debugkit-{n}" for n in range(1, 8))]


def test_a_folder_that_is_there_and_free_is_taken(tmp_path: Path) -> None:
    (tmp_path / "debugkit" / "studies").mkdir(parents=True)
    (tmp_path / "debugkit-1").write_text("a file of the user's")
    assert [claim(tmp_path).name for _ in range(2)] == ["debugkit", "debugkit-2"]


def test_the_first_run_of_a_place_keeps_its_folder_and_so_does_one_that_left_something(tmp_path: Path) -> None:
    first, second = short(tmp_path, "2026-01-01"), short(tmp_path, "2026-01-02")
    (second / "errors.json").write_text("{}")
    assert (fold(first), fold(second)) == ("", "")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["debugkit", "debugkit-1"]


def test_a_folded_run_is_read_and_gets_its_folder_back(tmp_path: Path) -> None:
    short(tmp_path, "2026-01-01")
    before = [list(read_journal(folder)) for folder in (short(tmp_path, "2026-01-02"), short(tmp_path, "2026-01-03"))]
    names = [fold(tmp_path / f"debugkit-{number}") for number in (1, 2)]
    assert [list(events) for events in folded(tmp_path / INDEX).values()] == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["debugkit", "debugkit-fits"]
    assert [each.when for each in experiments(tmp_path)] == ["2026-01-01", "2026-01-02", "2026-01-03"]

    folder = unfold(tmp_path, names[0])
    assert list(read_journal(folder)) == before[0]
    assert list(folded(tmp_path / INDEX)) == names[1:]
    with pytest.raises(FileNotFoundError, match="may have its folder back already"):
        unfold(tmp_path, names[0])


def test_report_finds_the_newest_run_below_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    deep = tmp_path / "a" / "version_0"
    deep.mkdir(parents=True)
    short(deep, "2026-01-02")
    short(tmp_path, "2026-01-01")
    assert newest(tmp_path) == (deep / "debugkit", 1)

    short(tmp_path, "2026-01-03")
    name = fold(tmp_path / "debugkit-1")
    assert name
    assert cli.main(["report", str(tmp_path)]) == 0
    told = capsys.readouterr().out
    assert "No fault found in 4 steps." in told
    assert f"Report: {(tmp_path / 'debugkit-1/report.html').resolve()}" in told
    assert "The newest of 3 runs" in told
    assert json.loads((tmp_path / "debugkit-1" / "report.json").read_text())
    assert cli.main(["report", str(tmp_path / "debugkit-1/report.html")]) == 0


def test_a_folder_without_runs_is_told_in_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["report", str(tmp_path)]) == 2
    assert "A report needs a run folder with a journal, and none is in" in capsys.readouterr().err


def test_a_file_beside_runs_is_none_of_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "logs").mkdir()
    run = short(tmp_path / "logs", "2026-01-01")
    (tmp_path / "notes.txt").write_text("none")
    assert cli.main(["report", str(tmp_path / "notes.txt")]) == 2
    assert "report needs a run folder or a file in one" in capsys.readouterr().err
    assert cli.main(["report", str(run / "journal-0.jsonl")]) == 0
