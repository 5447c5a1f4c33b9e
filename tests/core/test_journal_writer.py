"""A journal costs little: arrays for points, names once, and a bound on its size; and is read as it always was."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lightning_debugkit.core import journal_writer
from lightning_debugkit.core.finding import Severity, Where
from lightning_debugkit.core.journal import Journal, read_journal
from lightning_debugkit.core.journal_writer import JournalWriter, NamedNumbers
from lightning_debugkit.core.rule import Rule

FOUND = Rule("r", Severity.WARNING, "m", "a").found(Where(epoch=0, step=2), parameters=[f"p{n}" for n in range(1000)])


def point(step: int, value: Any, name: str = "loss", epoch: int = 0) -> dict[str, Any]:
    return {"kind": "measure", "epoch": epoch, "step": step, "rank": 0, "name": name, "value": value}


def fails(error: OSError) -> None:
    raise AssertionError(error)


def recorder(folder: Path) -> JournalWriter:
    return JournalWriter(Journal(folder), fails)


POINTS = [
    point(0, 0.5),
    point(0, {"a": 1.0, "b": float("inf")}, "gradient-norms"),
    point(1, float("nan"), epoch=1),
    point(1, {"a": 2.0}, "gradient-norms", epoch=1),
    point(2, {"a": 2.0, "c": 3.0}, "gradient-norms", epoch=1),
    point(2, {"optimizer": "Adam", "threshold": None, "exact": True}, "clipping", epoch=1),
    point(3, {"by": {"nothing": 3}}, "clipping-counts", epoch=1),
]


def test_points_come_back_as_they_were_given(tmp_path: Path) -> None:
    """The same events, written one a line as before and as arrays, are read alike."""
    old, new = tmp_path / "old", tmp_path / "new"
    for folder in (old, new):
        folder.mkdir()
    written = recorder(new)
    for event in ({"kind": "run", "rank": 0}, *POINTS, {"kind": "end", "step": 3, "rank": 0}):
        Journal(old).append(event)
        written.append(event)

    def series(folder: Path) -> dict[str, list[Any]]:
        found: dict[str, list[Any]] = {}
        for event in read_journal(folder).of_kind("measure"):
            found.setdefault(event["name"], []).append(event)
        return found

    assert series(new) == series(old)
    assert [event["kind"] for event in read_journal(new)][::8] == ["run", "end"]


def test_a_finding_is_on_disk_at_once_and_measures_within_a_second(tmp_path: Path) -> None:
    script = (
        "import sys, os, time\nfrom pathlib import Path\n"
        "from lightning_debugkit.core.journal import Journal\n"
        "from lightning_debugkit.core.journal_writer import JournalWriter\n"
        "r = JournalWriter(Journal(Path(sys.argv[1])), print)\n"
        "m = lambda s: {'kind': 'measure', 'epoch': 0, 'step': s, 'rank': 0, 'name': 'loss', 'value': 1.0}\n"
        "r.append(m(0)); time.sleep(1.6); r.append(m(1))\n"
        "r.append({'kind': 'finding', 'rule': 'r'}); r.append(m(2)); os.kill(os.getpid(), 9)\n"
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=False, timeout=60)
    assert [event.get("step", "finding") for event in read_journal(tmp_path)] == [0, 1, "finding"]


def test_a_point_opens_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = recorder(tmp_path)
    written.append({"kind": "run"})
    calls: list[str] = []
    for name in ("open", "write", "close", "fstat"):
        usual = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *args, name=name, usual=usual: (calls.append(name), usual(*args))[1])
    for step in range(100):
        written.append(point(step, 1.0))
    assert calls == []
    written.append({"kind": "artifact"})
    assert calls == ["fstat", "write"]


@pytest.mark.parametrize("parameters", [6, 10_000])
def test_any_length_of_run_and_any_model_stays_within_five_megabytes(
    parameters: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The same in a fortieth of the time.
    monkeypatch.setattr(journal_writer, "MAX_MEASURE_BYTES", journal_writer.MAX_MEASURE_BYTES // 40)
    value = {f"layers.{n // 4}.{'wbqk'[n % 4]}": 1.0 + n / 7 for n in range(parameters)}
    written = recorder(tmp_path)
    for step in range(100_000 if parameters < 100 else 400):
        written.append(point(step, value, "gradient-norms"))
        if step % 50 == 0:
            written.flush()
    written.append(FOUND.to_event())
    written.append({"kind": "end", "step": 1, "rank": 0})
    names = len(json.dumps(list(value)[: journal_writer.NAMED])) + 4_000
    room = 200 * 12 * min(parameters, 300)  # the points that every series has in any case
    assert written.journal.path.stat().st_size < 5_000_000 / 40 + names + room
    events = read_journal(tmp_path)
    assert events.of_kind("measure")[-1]["step"] == (99_999 if parameters < 100 else 399)  # the last one stands
    assert len(events.findings[0].evidence["parameters"]) == 201


def test_of_a_large_model_the_named_the_extreme_and_the_quantiles_are_told(tmp_path: Path) -> None:
    value = {f"block.{n // 100}.{n}": float(n) for n in range(2000)}
    value["block.3.333"] = float("nan")
    written = recorder(tmp_path)
    written.append({"kind": "run"})
    written.append(point(0, value, "gradient-norms"))
    written.close()
    (told,) = read_journal(tmp_path).of_kind("measure")
    assert journal_writer.NAMED <= len(told["value"]) <= journal_writer.NAMED + 8
    assert told["value"]["block.3.333"] == "nan"
    assert {"block.0.0", "block.19.1999", "block.19.1998"} <= set(told["value"])
    assert told["of"] == 2000
    assert told["quantiles"]["block.7"] == [700.0, 724.75, 749.5, 774.25, 799.0]


@pytest.mark.parametrize("count", [3, 250])
def test_an_array_of_named_numbers_is_told_as_a_mapping_is(count: int, tmp_path: Path) -> None:
    """Also where the names change, and where a number is not finite."""
    names = [f"layers.{at // 10}.p{at}" for at in range(count)]
    numbers = np.random.default_rng(1).lognormal(size=(3, count))
    numbers[1, count // 2], numbers[2, 0] = np.nan, np.inf
    rows = [(names, numbers[0]), (names, numbers[1]), (names[1:], numbers[2, 1:]), (names, numbers[2])]
    told = []
    for kind in ("mapping", "array"):
        (tmp_path / kind).mkdir()
        written = recorder(tmp_path / kind)
        for step, (row, values) in enumerate(rows):
            value = NamedNumbers(row, values) if kind == "array" else dict(zip(row, values.tolist(), strict=True))
            written.append(point(step, value, "gradient-norms"))
        written.close()
        told.append(written.journal.path.read_bytes())
    assert told[0] == told[1]


def test_facts_that_come_late_are_those_of_the_run(tmp_path: Path) -> None:
    written = recorder(tmp_path)
    written.append({"kind": "run", "rank": 0, "commit": None})
    written.append({"kind": "facts", "rank": 0, "commit": "abc", "dirty": True})
    (run,) = read_journal(tmp_path)
    assert (run["kind"], run["commit"], run["dirty"]) == ("run", "abc", True)


def test_a_disk_that_is_full_when_points_are_due_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lost: list[OSError] = []
    written = JournalWriter(Journal(tmp_path / "gone"), lost.append)
    monkeypatch.setattr(journal_writer, "SECONDS", 0.01)
    written.append(point(0, 1.0))
    until = time.monotonic() + 10
    while not lost and time.monotonic() < until:
        time.sleep(0.01)
    assert isinstance(lost[0], FileNotFoundError)
