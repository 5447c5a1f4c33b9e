"""Files that are not what was written: seen before they are loaded, and passed over for the next sound one."""

from __future__ import annotations

import os
import random
import shutil
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from checkpointing.marked import Marked, Resumed, fault, kept, step_of, train
from monitors.breaking import journal, warned

from lightning_debugkit import Finding, NestedCheckpoint
from lightning_debugkit.checkpointing.records import Moment, Record
from lightning_debugkit.checkpointing.verification import digest, mismatch
from lightning_debugkit.checkpoints import Best, Every, Latest
from lightning_debugkit.cli import main

pytestmark = [
    pytest.mark.usefixtures("one_thread", "no_report"),
    pytest.mark.filterwarnings("ignore::UserWarning:lightning", "ignore::FutureWarning"),
]


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the checkpoints of steps 2, 4 and 6, the best of which is that of step 4."""
    folder = tmp_path_factory.mktemp("sound")
    train(folder, everyday(folder), module=Marked(0.1))
    assert kept(folder / "checkpoints") == [2, 4, 6]
    return folder


def everyday(folder: Path) -> NestedCheckpoint:
    return NestedCheckpoint(folder / "checkpoints", rules=[Every(epochs=1), Best("score"), Latest()])


def copied(folder: Path, tmp_path: Path) -> Path:
    shutil.copytree(folder / "checkpoints", tmp_path / "checkpoints", symlinks=True)
    return tmp_path


def file_of(folder: Path, step: int) -> Path:
    (path,) = (folder / "checkpoints").glob(f"step-{step:08d}-*.ckpt")
    return path


def resumed(folder: Path) -> tuple[int, list[Finding]]:
    """The step that a fit goes on from, with the weights of that step, and what it warns of."""
    seen = Resumed()
    train(folder, seen, everyday(folder), module=Marked(0.1), epochs=4, ckpt_path="last")
    return seen.step, warned(journal(folder))


def flip(path: Path, at: int, bit: int = 4) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1 << bit
    path.write_bytes(data)


@pytest.mark.parametrize("chance", range(12))
def test_no_bit_that_flipped_is_trained_on(chance: int, sound: Path, tmp_path: Path) -> None:
    """Wherever it lies: ``torch.load`` returns wrong numbers for each of those within a tensor."""
    folder = copied(sound, tmp_path)
    newest = file_of(folder, 6)
    where = random.Random(chance)
    flip(newest, where.randrange(newest.stat().st_size), where.randrange(8))
    step, findings = resumed(folder)
    if fault(newest) == "" and step == 6:  # between the parts of the zip there are bytes that hold nothing
        assert findings == []
        return
    assert step == 4
    assert {finding.rule for finding in findings} == {"checkpoint-repaired"}
    assert any(newest.name in finding.message for finding in findings)


@pytest.mark.parametrize("left", [-1, 0.5, 100, 0], ids=["but a byte", "half", "100 bytes", "nothing"])
def test_of_a_truncated_file_the_one_before_is_taken(left: float, sound: Path, tmp_path: Path) -> None:
    folder = copied(sound, tmp_path)
    newest = file_of(folder, 6)
    size = newest.stat().st_size
    os.truncate(newest, size - 1 if left == -1 else int(size * left) if left == 0.5 else int(left))
    step, findings = resumed(folder)
    assert step == 4
    assert any(newest.name in finding.message for finding in findings)


def test_a_hole_of_zeros_is_not_loaded(sound: Path, tmp_path: Path) -> None:
    """What a loss of power leaves of a block that never reached the device."""
    folder = copied(sound, tmp_path)
    newest = file_of(folder, 6)
    data = bytearray(newest.read_bytes())
    data[40_000:44_096] = bytes(4096)
    newest.write_bytes(data)
    assert float(torch.load(newest, weights_only=True)["state_dict"]["mark"].min()) == 0, "torch takes the zeros"
    assert resumed(folder)[0] == 4


def test_one_falls_back_as_far_as_need_be(sound: Path, tmp_path: Path) -> None:
    folder = copied(sound, tmp_path)
    for step in (4, 6):
        flip(file_of(folder, step), 50_000)
    names = [file_of(folder, step).name for step in (4, 6)]
    step, findings = resumed(folder)
    assert step == 2
    assert all(any(name in finding.message for finding in findings) for name in names)


def test_files_of_which_none_is_sound_begin_nothing_anew(sound: Path, tmp_path: Path) -> None:
    folder = copied(sound, tmp_path)
    for step in (2, 4, 6):
        flip(file_of(folder, step), 50_000)
    before = sorted(path.name for path in (folder / "checkpoints").iterdir())
    with pytest.raises(RuntimeError, match="holds 3 checkpoints and none is sound"):
        resumed(folder)
    assert sorted(path.name for path in (folder / "checkpoints").iterdir()) == before


@pytest.mark.parametrize("spoiled", ["", '{"v": 1, "na', "[]", "\0" * 300], ids=["empty", "half", "a list", "zeros"])
@pytest.mark.parametrize("all_of_them", [False, True], ids=["newest", "all"])
def test_a_record_that_cannot_be_read_is_as_good_as_none(
    all_of_them: bool, spoiled: str, sound: Path, tmp_path: Path
) -> None:
    """The checkpoint itself is sound, and holds what its record would say."""
    folder = copied(sound, tmp_path)
    for step in (2, 4, 6) if all_of_them else (6,):
        Path(f"{file_of(folder, step)}.json").write_text(spoiled)
    step, _ = resumed(folder)
    assert step == 6
    assert kept(folder / "checkpoints") == [2, 4, 6, 8]


def test_a_link_that_leads_nowhere_is_no_loss(sound: Path, tmp_path: Path) -> None:
    folder = copied(sound, tmp_path)
    (folder / "checkpoints" / "last.ckpt").unlink()
    (folder / "checkpoints" / "last.ckpt").symlink_to("step-00000099-gone.ckpt")
    assert resumed(folder) == (6, [])
    assert step_of(folder / "checkpoints" / "last.ckpt") == 8


def test_files_of_others_stay_as_they_are(sound: Path, tmp_path: Path) -> None:
    folder = copied(sound, tmp_path) / "checkpoints"
    mine = {
        "notes.txt": b"seed 3",
        "epoch=1-step=2.ckpt": b"of another callback",
        ".hidden.tmp": b"draft",
        "a.json": b"{",
    }
    for name, data in mine.items():
        (folder / name).write_bytes(data)
    assert resumed(tmp_path) == (6, [])
    assert {name: (folder / name).read_bytes() for name in mine} == mine


def test_the_command_line_tells_what_is_not_sound_and_touches_nothing(
    sound: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = copied(sound, tmp_path)
    flip(file_of(folder, 4), 50_000)
    before = {path.name: path.read_bytes() for path in (folder / "checkpoints").iterdir()}
    status = main(["checkpoints", str(folder)])
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines() if line.split()}
    name = file_of(folder, 4).name
    assert status == 1
    assert "CRC-32" in lines["4"] or any(name in line and "CRC-32" in line for line in lines.values())
    assert all(" yes " in lines[step] for step in ("2", "6"))
    assert {path.name: path.read_bytes() for path in (folder / "checkpoints").iterdir()} == before


def _zip_of_others(path: Path, remark: bytes = b"") -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.comment = remark
        archive.writestr("one", b"1" * 100)


@pytest.mark.parametrize(
    "write",
    [
        lambda path: torch.save({"weight": torch.ones(3)}, path),
        lambda path: torch.save({f"{index}": torch.ones(1) for index in range(900)}, path),
        _zip_of_others,
        lambda path: _zip_of_others(path, b"with a remark of more bytes than the ends of the directory have" * 3),
    ],
    ids=["torch", "many tensors", "another writer", "remark"],
)
def test_the_digest_is_the_checksum_of_what_stands_behind_the_parts(
    write: Callable[[Path], None], tmp_path: Path
) -> None:
    path = tmp_path / "file"
    write(path)
    with zipfile.ZipFile(path) as archive:
        begins = archive.start_dir
    before = digest(path)
    assert before == f"{zlib.crc32(path.read_bytes()[begins:]):08x}"
    flip(path, begins + 20)
    assert digest(path) != before


@pytest.mark.parametrize("size", [0, 50, 500])
def test_what_is_no_zip_file_has_no_digest(size: int, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"PK" * (size // 2))
    assert digest(tmp_path / "file") == ""


def test_a_record_of_an_older_build_still_knows_its_file(sound: Path, tmp_path: Path) -> None:
    """Those held a checksum of what `zipfile` reads of the directory."""
    path = file_of(copied(sound, tmp_path), 6)
    with zipfile.ZipFile(path) as archive:
        begins = archive.start_dir
        parts = [f"{part.filename}:{part.file_size}:{part.CRC}" for part in archive.infolist()]
    older = f"{zlib.crc32(chr(10).join(parts).encode()):08x}"
    record = Record(path.name, Moment(6), size=path.stat().st_size, digest=older)
    assert older != digest(path)
    assert mismatch(path, record) == ""
    flip(path, begins + 16)  # within the CRC-32 of the first part
    assert mismatch(path, record) == "its directory is not the one that was written"
