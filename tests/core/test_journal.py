"""The journal's promises: strict JSON, whole lines, merged ranks, and survival of what does not belong."""

import errno
import json
import math
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_debugkit.core.finding import Severity, Where
from lightning_debugkit.core.journal import Journal, encode, read_journal, strict
from lightning_debugkit.core.rule import Rule

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(), PLAIN, max_size=4))
def test_every_event_is_one_line_of_strict_json(event: dict[str, Any]) -> None:
    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    line = encode({"kind": "measure", "value": event})
    assert line.count(b"\n") == 1
    assert line.endswith(b"\n")
    assert json.loads(line, parse_constant=refuse) == strict({"v": 1, "kind": "measure", "value": event})


@given(st.floats())
def test_a_number_comes_back_as_itself_or_as_its_name(number: float) -> None:
    assert math.isfinite(number) == isinstance(strict(number), float)
    assert strict(number) in (number, "nan", "inf", "-inf")


def test_numbers_of_numpy_and_torch_become_plain() -> None:
    numpy, torch = pytest.importorskip("numpy"), pytest.importorskip("torch")
    assert strict({"a": numpy.float32(0.5), "b": torch.tensor(math.nan), "c": {1}, "d": torch.ones(2)}) == {
        "a": 0.5,
        "b": "nan",
        "c": [1],
        "d": [1.0, 1.0],
    }


def test_ranks_are_merged_by_step_and_each_keeps_its_own_order(tmp_path: Path) -> None:
    for rank in (0, 1, 10):
        journal = Journal(tmp_path, rank)
        journal.append({"kind": "run", "rank": rank})
        journal.append({"kind": "measure", "step": 5 - rank % 2, "rank": rank})
        journal.append({"kind": "end", "rank": rank})
    seen = [(event["kind"], event["rank"]) for event in read_journal(tmp_path)]
    assert seen == [
        *[("run", rank) for rank in (0, 1, 10)],
        *[("measure", 1), ("end", 1), ("measure", 0), ("end", 0), ("measure", 10), ("end", 10)],
    ]


def test_a_torn_last_line_costs_only_itself(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.append({"kind": "run"})
    journal.append({"kind": "measure", "step": 1})
    whole = journal.path.read_bytes()
    journal.path.write_bytes(whole[:-9])
    assert [event["kind"] for event in read_journal(tmp_path)] == ["run"]
    journal.append({"kind": "end"})
    assert [event["kind"] for event in read_journal(tmp_path)] == ["run", "end"]


def test_foreign_lines_are_passed_over_and_newer_versions_kept(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.append({"kind": "run"})
    with journal.path.open("ab") as handle:
        handle.write(b'hello\n[1, 2]\n{"v": 1}\n\xff\xfe\n{"v": 2, "kind": "prophecy", "step": "soon"}\n')
    assert [event["kind"] for event in read_journal(journal.path)] == ["run", "prophecy"]


def test_findings_are_read_back_and_broken_ones_passed_over(tmp_path: Path) -> None:
    finding = Rule("r", Severity.INFO, "m", "a").found(Where(epoch=0, step=1), norm=2.0)
    Journal(tmp_path).append(finding.to_event())
    Journal(tmp_path).append({"kind": "finding", "rule": "half"})
    assert read_journal(tmp_path).findings == [finding]


def test_a_folder_without_a_journal_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="read_journal needs a run folder"):
        read_journal(tmp_path)


def test_a_run_is_read_by_the_paths_that_a_report_takes(tmp_path: Path) -> None:
    run = tmp_path / "version_1" / "debugkit"
    run.mkdir(parents=True)
    Journal(run, 1).append({"kind": "run", "rank": 1})
    Journal(run).append({"kind": "run", "rank": 0})
    (run / "report.html").write_text("<p>")
    for path in (run, run.parent, run / "report.html"):
        assert [event["rank"] for event in read_journal(path)] == [0, 1], path
    assert [event["rank"] for event in read_journal(run / "journal-1.jsonl")] == [1]
    kept = (run / "journal-0.jsonl").rename(tmp_path / "kept.jsonl")
    assert [event["rank"] for event in read_journal(kept)] == [0]


def test_what_is_no_one_run_never_reads_as_a_run_without_findings(tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text("<p>")
    with pytest.raises(FileNotFoundError, match=r"usually LOG_DIR/debugkit, got '.*page\.html'\.$"):
        read_journal(tmp_path / "page.html")
    for name in ("debugkit", "debugkit-1"):
        (tmp_path / name).mkdir()
        Journal(tmp_path / name).append({"kind": "run"})
    with pytest.raises(FileNotFoundError, match=r"it holds several, such as '.*debugkit': name one\."):
        read_journal(tmp_path)


def test_a_full_disk_leaves_whole_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(tmp_path)
    journal.append({"kind": "run"})
    write = os.write

    def full(handle: int, data: bytes) -> int:
        if len(data) < 20:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(handle, data[:10])

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match="No space left"):
        journal.append({"kind": "measure", "step": 1, "value": 3.0})
    assert journal.path.read_bytes() == encode({"kind": "run"})


def test_a_journal_pickles(tmp_path: Path) -> None:
    copy = pickle.loads(pickle.dumps(Journal(tmp_path, rank=3)))
    assert copy.path == tmp_path / "journal-3.jsonl"
