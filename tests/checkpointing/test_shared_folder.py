"""Two fits at work in one folder: each keeps its own files, all of them sound, and the second one says so."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from checkpointing.killing import until
from checkpointing.saving import Scored, steps, train
from lightning.pytorch.callbacks import Callback

from lightning_debugkit import NestedCheckpoint, read_journal
from lightning_debugkit.checkpointing.presence import Presence
from lightning_debugkit.checkpointing.records import Record, read_records
from lightning_debugkit.checkpoints import Best, Every, Latest

pytestmark = [
    pytest.mark.timeout(150),
    pytest.mark.usefixtures("no_report", "no_process_left"),
    pytest.mark.filterwarnings("ignore"),
]
RULES = [Best("val_loss", k=2), Latest(n=2, every_n_steps=1), Every(steps=6, keep=2)]
SAID = "another NestedCheckpoint that is still at work saves here, too; each keeps its own files"


class Meets(Callback):
    """Leaves word at the start and waits for the others; then leaves word at the end, and waits again.

    Args:
        folder: Where word is left.
        name: Of this one.
        names: Of all; the later ones begin when the earlier have.
    """

    def __init__(self, folder: Path, name: str, names: str) -> None:
        self.folder, self.name, self.names = folder, name, names

    def on_train_start(self, *_: Any) -> None:
        self._meet("began")

    def on_train_end(self, *_: Any) -> None:
        self._meet("ended")

    def _meet(self, what: str) -> None:
        (self.folder / f"{what}-{self.name}").touch()
        assert until(lambda: all((self.folder / f"{what}-{name}").exists() for name in self.names), 60)


def started(work: Callable[..., Any], *arguments: Any) -> Any:
    def quiet() -> None:
        sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: PTH123, SIM115 (of the child alone, to its end)
        work(*arguments)

    process = multiprocessing.get_context("fork").Process(target=quiet, daemon=True)
    process.start()
    return process


def fit(folder: Path, kept: Path, name: str, names: str, scores: list[float], **options: Any) -> None:
    train(
        folder / name, Meets(folder, name, names), NestedCheckpoint(kept, RULES), module=Scored(scores),
        max_epochs=6, **options,
    )  # fmt: skip


def messages(folder: Path) -> list[str]:
    journal = read_journal(folder / "debugkit")
    assert journal.of_kind("trouble") == []
    return [finding.message for finding in journal.findings]


def of_run(kept: Path) -> dict[str, list[Record]]:
    """The records by fit, each in the order of training."""
    runs: dict[str, list[Record]] = {}
    for record in read_records(kept):
        runs.setdefault(record.run, []).append(record)
    return runs


@pytest.mark.parametrize("is_shared", [True, False], ids=["one folder", "two folders"])
def test_two_fits_that_save_at_once_keep_what_their_rules_keep(is_shared: bool, tmp_path: Path) -> None:
    places = {name: tmp_path / ("kept" if is_shared else f"kept-{name}") for name in "ab"}
    scores = {"a": [0.5, 0.1, 0.9, 0.3, 0.8, 0.7], "b": [0.9, 0.8, 0.1, 0.6, 0.2, 0.5]}
    fits = {name: started(fit, tmp_path, places[name], name, "ab", scores[name]) for name in "ab"}
    for process in fits.values():
        process.join(100)
    assert [process.exitcode for process in fits.values()] == [0, 0]
    kept = {"a": [10, 20, 24, 29, 30], "b": [15, 24, 25, 29, 30]}
    if not is_shared:
        assert {name: steps(place) for name, place in places.items()} == kept
        assert messages(tmp_path / "a") == messages(tmp_path / "b") == []
        return
    assert steps(places["a"]) == sorted([*kept["a"], *kept["b"]]), "every file is sound"
    runs = of_run(places["a"])
    assert sorted([record.step for record in records] for records in runs.values()) == sorted(kept.values())
    told = [message for name in "ab" for message in messages(tmp_path / name)]
    assert told == [f"in {places['a']}: {SAID}"], "the second says it"


def test_one_that_goes_on_from_another_that_is_still_at_work_leaves_it_its_newest(tmp_path: Path) -> None:
    """As where a job is started again while the first one hangs, and comes to itself."""
    kept = tmp_path / "kept"
    train(tmp_path / "before", NestedCheckpoint(kept, [Latest()]), max_epochs=1)
    first = started(fit, tmp_path, kept, "a", "ab", [0.5] * 9)
    assert until(lambda: (tmp_path / "began-a").exists(), 60)
    second = started(fit_from_last, tmp_path, kept, "b", "ab", [0.4] * 9)
    for process in (first, second):
        process.join(100)
    assert [first.exitcode, second.exitcode] == [0, 0]
    steps(kept)
    ends = [records for records in of_run(kept).values() if records[-1].step == 30]
    assert len(ends) == 2, "the newest of each is there"
    assert any(SAID in message for message in messages(tmp_path / "b"))


def fit_from_last(*arguments: Any) -> None:
    fit(*arguments, ckpt_path="last")


def test_a_fit_that_is_over_is_no_company(tmp_path: Path) -> None:
    """Nor is one that broke, or a child that it has left behind."""

    class Breaks(Scored):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            raise ValueError("broken off")

    kept = tmp_path / "kept"
    train(tmp_path / "one", NestedCheckpoint(kept))
    with pytest.raises(ValueError, match="broken off"):
        train(tmp_path / "two", NestedCheckpoint(kept), module=Breaks(), ckpt_path=None)
    train(tmp_path / "three", NestedCheckpoint(kept), ckpt_path="last", max_epochs=4)
    assert not any(SAID in message for run in ("one", "two", "three") for message in messages(tmp_path / run))


def test_a_forked_child_has_no_part_in_it(tmp_path: Path) -> None:
    first = Presence(tmp_path)
    assert not first.has_company
    assert Presence(tmp_path).has_company
    begins, began = os.pipe()
    ends, end = os.pipe()
    child = os.fork()
    if not child:
        os.write(began, b"1")
        os.read(ends, 1)
        os._exit(0)
    os.read(begins, 1)
    first.leave()
    last = Presence(tmp_path)
    os.write(end, b"1")
    os.waitpid(child, 0)
    assert not last.has_company
    for handle in (begins, began, ends, end):
        os.close(handle)


def test_three_are_each_other_company(tmp_path: Path) -> None:
    one, two = Presence(tmp_path), Presence(tmp_path)
    one.leave()
    assert Presence(tmp_path).has_company
    two.leave()
    assert not Presence(tmp_path).has_company
