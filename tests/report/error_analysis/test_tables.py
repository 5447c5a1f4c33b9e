"""Tables say nothing that is empty, and no share of what it is not a share of."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from report.error_analysis import mistakes
from report.error_analysis.test_chapter import few

from lightning_debugkit.core.journal import read_journal
from lightning_debugkit.report import summarize
from lightning_debugkit.report.error_analysis.chapter import chapter
from lightning_debugkit.report.error_analysis.confused_pairs import _each_way
from lightning_debugkit.report.parts import Details, Table

MERGE = {
    "first": 0, "second": 1, "count": 3, "accuracy": 0.7, "accuracy_merged": 0.83, "kappa": 0.5, "kappa_merged": 0.6,
    "asymmetry": 0.3, "rise": 0.1, "rise_low": 0.02, "rise_high": 0.18, "told_apart": 0.4, "told_apart_low": 0.1,
    "told_apart_high": 0.7, "cannot_tell": None,
}  # fmt: skip


def tables(folder: Path, held: Any) -> dict[str, Table]:
    mistakes.write(folder, held)
    found = flat(chapter(summarize(read_journal(folder)), folder, "validate", "errors"))
    return {part.caption: part for part in found if isinstance(part, Table)}


def flat(parts: Any) -> Iterator[Any]:
    for part in parts:
        yield part
        if isinstance(part, Details):
            yield from flat(part.parts)


def test_pixels_have_no_columns_for_what_only_samples_have(tmp_path: Path) -> None:
    loss = {"loss": 2.0, "target": 0, "predicted": 1, "index": 3, "probability": "nan", "confidence": "nan"}
    held = few(unit="pixels", task="segmentation", merge_candidates=[MERGE], top_losses=[loss])
    found = tables(tmp_path, held)
    assert found["If two classes were one"].header == (
        "classes", "confused", "accuracy", "kappa", "its rise", "told apart"
    )  # fmt: skip
    assert found["Largest losses"].header == ("index", "true class", "taken for", "loss")
    for table in found.values():
        assert all(any(row[at].text for row in table.rows) for at in range(len(table.header))), table.caption
        assert {len(row) for row in table.rows} == {len(table.header)}


def test_the_worth_of_a_merge_stands_with_its_interval_where_answers_are_independent(tmp_path: Path) -> None:
    [row] = tables(tmp_path, few(merge_candidates=[MERGE | {"cannot_tell": 0.25}]))["If two classes were one"].rows
    assert [cell.text for cell in row] == [
        "cat and dog", "3 (2 and 1)", "70 % to 83 %", "0.5 to 0.6", "0.02 to 0.18", "0.4 (0.1 to 0.7)", "25 %"
    ]  # fmt: skip


@pytest.mark.parametrize("nothing", ["(no label)", "(background)"])
def test_what_is_seen_where_nothing_is_is_a_share_of_the_false_alarms(nothing: str, tmp_path: Path) -> None:
    pairs = [
        {"target": 2, "predicted": 0, "count": 6, "share": 0.75, "low": 0.4, "high": 0.9, "reverse": 2},
        {"target": 0, "predicted": 2, "count": 2, "share": 0.2, "low": 0.1, "high": 0.5, "reverse": 6},
    ]
    unit = "labels" if nothing == "(no label)" else "boxes"
    found = tables(tmp_path, few(classes=["cat", "dog", nothing], unit=unit, most_confused=pairs))["Most confused"]
    assert [row[3].text for row in found.rows] == ["75 % of false alarms", "20 %"]


def test_an_asymmetry_beyond_all_bounds_breaks_no_table() -> None:
    assert _each_way({"count": 10, "asymmetry": 1e308}) == "10 (10 and 0)"
    assert _each_way({"count": 10, "asymmetry": -0.6}) == "10 (2 and 8)"
