"""The report's table of checkpoints: what was left, why, whether it is sound, and what saving took."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lightning_debugkit.core.journal import read_journal
from lightning_debugkit.report import Summary, render, summarize
from lightning_debugkit.report.parts import Drawing, Paragraph, Table
from lightning_debugkit.report.sections.checkpoints import SECTION, left

Writer = Callable[..., Path]
RUN = {"kind": "run", "rank": 0, "world_size": 1}


def measure(name: str, step: int, value: Any) -> dict[str, Any]:
    return {"kind": "measure", "name": name, "epoch": 0, "step": step, "rank": 0, "value": value}


def saved(step: int, seconds: float = 0.5, **metrics: float) -> dict[str, Any]:
    value = {"file": f"step-{step}.ckpt", "step": step, "epoch": 0, "metrics": metrics, "bytes": 2_500_000,
             "seconds": seconds, "reasons": ["latest"]}  # fmt: skip
    return measure("checkpoint", step, value)


def there(step: int, fault: str = "", **metrics: float) -> dict[str, Any]:
    return {"kind": "artifact", "name": "checkpoint", "path": f"../checkpoints/step-{step}.ckpt", "step": step,
            "epoch": 1, "rank": 0, "file": f"step-{step}.ckpt", "metrics": metrics, "bytes": 2_500_000,
            "reasons": ["best val_loss", "latest"], "fault": fault}  # fmt: skip


def parts(folder: Path) -> dict[str, Any]:
    summary = summarize(read_journal(folder))
    return {type(part).__name__: part for part in SECTION.parts(summary, folder)}


def steps(summary: Summary) -> list[int]:
    return [file["step"] for file in left(summary)]


def test_a_run_without_checkpoints_has_no_such_section(journal: Writer) -> None:
    assert parts(journal(RUN)) == {}


def test_the_table_tells_of_each_file_why_and_whether(journal: Writer) -> None:
    monitors = [measure("monitor", step, {"val_loss": 1 / step}) for step in (5, 10)]
    folder = journal(RUN, saved(5), saved(10), *monitors, there(5), there(10, "it is gone", val_loss=0.1))
    table: Table = parts(folder)["Table"]
    assert table.header == ("file", "step", "epoch", "val_loss", "MB", "kept because", "sound")
    assert [[cell.text for cell in row] for row in table.rows] == [
        ["step-5.ckpt", "5", "1", "", "2.5", "best val_loss; latest", "yes"],
        ["step-10.ckpt", "10", "1", "0.1", "2.5", "best val_loss; latest", "it is gone"],
    ]
    assert [row[-1].is_marked for row in table.rows] == [False, True]


def test_of_a_killed_run_what_was_saved_and_not_deleted_is_told(journal: Writer) -> None:
    folder = journal(RUN, saved(5), saved(10), measure("checkpoint-dropped", 10, "step-5.ckpt"), saved(10, 0.0, a=1.0))
    summary = summarize(read_journal(folder))
    assert steps(summary) == [10]
    assert left(summary)[0]["metrics"] == {"a": 1.0}
    assert parts(folder)["Table"].rows[0][-1].text == "not looked at"


def test_the_cost_counts_what_was_written_and_what_failed(journal: Writer) -> None:
    failed = measure("checkpoint-failed", 15, {"step": 15, "error": "full"})
    folder = journal(RUN, saved(5), saved(10, 1.5), saved(10, 0.0), failed)
    paragraph: Paragraph = parts(folder)["Paragraph"]
    assert paragraph.text == "2 checkpoints written in 2 s, 1 s each; 1 save failed."


def test_the_course_of_the_metric_is_drawn_with_the_files_kept(journal: Writer) -> None:
    values = [0.5, "nan", 0.3, 0.2]
    monitors = [measure("monitor", 5 * count, {"val_loss": value}) for count, value in enumerate(values, 1)]
    folder = journal(RUN, *monitors, saved(5), there(7), there(20, val_loss=0.2))
    drawing: Drawing = parts(folder)["Drawing"]
    assert drawing.alt == "val_loss at 4 evaluations, from 0.5 to 0.2; files kept of steps 7, 20."
    axes = drawing.draw().axes[0]
    ringed, feet = [c.get_offsets().tolist() for c in axes.collections if len(c.get_offsets()) and c.get_zorder() != 4]
    assert ringed == [[20, 0.2]]
    assert [point[0] for point in feet] == [7]


def test_the_report_shows_it_once_and_not_among_other_files(journal: Writer) -> None:
    folder = journal(RUN, saved(5), there(5))
    render(folder)
    assert (folder / "report.md").read_text().count("step-5.ckpt") == 1
    assert "Checkpoints" in (folder / "report.html").read_text()
    assert json.loads((folder / "report.json").read_text())


def test_odd_events_do_not_break_it(journal: Writer) -> None:
    odd = [
        measure("checkpoint", 1, value) for value in (None, [], "x", {"metrics": 3, "seconds": "x", "reasons": None})
    ]
    folder = journal(RUN, *odd, measure("monitor", 1, {"a": "b"}), measure("checkpoint-dropped", 1, {"a": 1}))
    assert "Table" in parts(folder)
