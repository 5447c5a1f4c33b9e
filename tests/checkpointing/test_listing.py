"""The command line tells what a folder of checkpoints holds, and changes nothing in it."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from checkpointing.folders import draft, flip, opened, writer

from lightning_debugkit.checkpointing.keep_reasons import RESUMED, kept
from lightning_debugkit.checkpointing.listing import listing
from lightning_debugkit.checkpointing.records import read_records
from lightning_debugkit.checkpointing.store import Store
from lightning_debugkit.checkpoints import Best, Every, Latest, read_rules
from lightning_debugkit.cli import main

RULES = (Best("loss", k=2), Every(steps=4), Latest())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Six steps by three rules, gone on from step 4 by another fit, which leaves step 6 behind."""
    folder = tmp_path / "checkpoints"
    store = opened(folder, RULES)
    for step, loss in enumerate([0.5, 0.3, 0.4, 0.6, 0.7, 0.8], 1):
        record = replace(draft(step, loss), rules=tuple(map(repr, RULES)))
        store.save(record, writer(record))
    again = Store(folder, RULES, "bbbbbbbb")
    again.read()
    again.lineage = ((store.run, 4),)
    again.pinned = {draft(4).name: RESUMED}
    record = replace(draft(5, 0.1, run="bbbbbbbb"), time=99.0, lineage=again.lineage, rules=tuple(map(repr, RULES)))
    again.save(record, writer(record))
    return folder


def rows(text: str) -> dict[str, str]:
    return {line.rpartition("  ")[2]: line for line in text.splitlines() if line.endswith(".ckpt")}


def test_each_file_is_listed_with_its_reasons_and_its_soundness(folder: Path) -> None:
    told = listing(folder)
    assert told.damaged == ()
    table = rows(told.text)
    assert set(table) == {record.name for record in read_records(folder)}
    assert "one of the 2 best loss; latest" in table[draft(5, run="bbbbbbbb").name]
    assert "every 4 steps; resumed from" in table[draft(4).name]
    assert "best" not in table[draft(6).name]
    assert "1 file of" in told.text.partition("left behind, which no rule touches: ")[2]
    assert all("  yes  " in line for line in table.values())


def test_the_folder_above_will_do_and_nothing_is_changed(folder: Path) -> None:
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert listing(folder.parent).text == listing(folder).text
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == before


def test_a_metric_of_a_plan_that_no_checkpoint_has_is_said(folder: Path) -> None:
    assert "No checkpoint has the metric 'los': did you mean 'loss'?" in listing(folder, read_rules("Best('los')")).text
    assert "No checkpoint has" not in listing(folder, read_rules("Best('loss')")).text


@pytest.mark.parametrize("plan", ["Best('loss')", "Latest(n=2), Every(steps=5)", "Best('none')"])
def test_a_plan_tells_what_other_rules_would_keep(plan: str, folder: Path) -> None:
    table = rows(listing(folder, read_rules(plan)).text)
    current = [record for record in read_records(folder) if record.name != draft(6).name]
    staying = kept(current, read_rules(plan))
    for record in current:
        assert ("; ".join(staying.get(record.name, ["goes"])) in table[record.name]) is True
        assert ("  goes  " in table[record.name]) == (record.name not in staying)


def test_a_damaged_file_is_told_and_is_the_status(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["checkpoints", str(folder)]) == 0
    flip(folder / draft(2).name, 0.5)
    assert main(["checkpoints", str(folder), "--quick"]) == 0, "a flipped bit is seen by reading only"
    capsys.readouterr()
    assert main(["checkpoints", str(folder)]) == 1
    assert "fails its CRC-32" in rows(capsys.readouterr().out)[draft(2).name]


def test_leavings_are_told(folder: Path) -> None:
    (folder / "step-00000009-0123abcd.ckpt.damaged").write_text("")
    (folder / ".step-00000009-0123abcd.ckpt.89abcdef.tmp").mkdir()
    told = listing(folder).text
    assert "Damaged and set aside: step-00000009-0123abcd.ckpt.damaged" in told
    assert "left by a killed run (removed by the next fit): .step-00000009-0123abcd.ckpt.89abcdef.tmp" in told


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "checkpoints needs a folder in which NestedCheckpoint has saved, got "),
        (["--plan", "Evry()"], "read_rules needs calls of Every, Best and Latest, got 'Evry()'; "),
    ],
)
def test_a_wrong_use_is_one_sentence(
    arguments: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["checkpoints", str(tmp_path), *arguments]) == 2
    assert capsys.readouterr().err.startswith(f"lightning-debugkit: {said}")


def test_it_needs_no_torch(folder: Path) -> None:
    code = f"import sys; from lightning_debugkit.cli import main; main(['checkpoints', {str(folder)!r}])"
    show = "print('torch' in sys.modules, 'lightning' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", f"{code}; {show}"], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False False"
