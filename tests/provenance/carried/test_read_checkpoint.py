"""What a checkpoint says of its code is read from any file, and nothing in the file runs."""

from __future__ import annotations

import dataclasses
import io
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from lightning_debugkit.provenance.carried.manifest import KEY, Malformed, Manifest, NoSnapshot, embedded
from lightning_debugkit.provenance.carried.read_checkpoint import read_snapshot

MANIFEST = Manifest({"format": 1, "id": "run-1", "note": "ünïcode"})
SOURCE = bytes(range(256)) * 40


@dataclasses.dataclass
class Settings:
    """What users keep in hyper-parameters."""

    width: int = 3
    places: list[Path] = dataclasses.field(default_factory=lambda: [Path("a")])


class Ran(Exception):
    """Code of the file has run."""


def raise_ran(*args: Any) -> Any:
    raise Ran


class Malicious:
    """Runs when it is unpickled."""

    def __init__(self, *call: Any) -> None:
        self.call = call

    def __reduce__(self) -> Any:
        return self.call[0], tuple(self.call[1:])


def checkpoint(**further: Any) -> dict[str, Any]:
    optimizer = torch.optim.Adam([torch.nn.Parameter(torch.ones(2))])
    optimizer.param_groups[0]["params"][0].grad = torch.ones(2)
    optimizer.step()
    state = {"state_dict": {"w": torch.randn(50, 50)}, "optimizer_states": [optimizer.state_dict()]}
    return {**state, KEY: embedded(MANIFEST, SOURCE), **further}


def assert_read(path: Path) -> None:
    manifest, source = read_snapshot(path)
    assert (manifest.data, source) == (MANIFEST.data, SOURCE)


@pytest.mark.parametrize("new_format", [True, False])
def test_a_checkpoint_gives_back_what_was_put_in(tmp_path: Path, new_format: bool) -> None:
    torch.save(checkpoint(), tmp_path / "x.ckpt", _use_new_zipfile_serialization=new_format)
    assert_read(tmp_path / "x.ckpt")


def test_it_loads_with_weights_only(tmp_path: Path) -> None:
    torch.save(checkpoint(), tmp_path / "x.ckpt")
    assert torch.load(tmp_path / "x.ckpt", weights_only=True)[KEY]["source_zip"] == SOURCE


def test_classes_in_hyper_parameters_are_in_no_way(tmp_path: Path) -> None:
    """``torch.load(weights_only=True)`` refuses such a file."""
    torch.save(checkpoint(hyper_parameters={"settings": Settings(), "kind": Settings}), tmp_path / "x.ckpt")
    with pytest.raises(pickle.UnpicklingError):
        torch.load(tmp_path / "x.ckpt", weights_only=True)
    assert_read(tmp_path / "x.ckpt")


@pytest.mark.parametrize(
    "call", [(raise_ran,), (os.mkdir, "made"), (eval, "1/0"), (exec, "raise SystemExit"), (getattr, "", "join")]
)
def test_nothing_in_the_file_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: Any) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save(checkpoint(trap=Malicious(*call)), tmp_path / "x.ckpt")
    assert_read(tmp_path / "x.ckpt")
    assert [path.name for path in tmp_path.iterdir()] == ["x.ckpt"]


def test_the_trap_of_that_test_would_have_sprung(tmp_path: Path) -> None:
    torch.save(checkpoint(trap=Malicious(raise_ran)), tmp_path / "x.ckpt")
    with pytest.raises(Ran):
        torch.load(tmp_path / "x.ckpt", weights_only=False)


def test_a_trap_in_place_of_the_snapshot_is_refused(tmp_path: Path) -> None:
    torch.save({KEY: {"manifest": Malicious(raise_ran)}}, tmp_path / "x.ckpt")
    with pytest.raises(Malformed):
        read_snapshot(tmp_path / "x.ckpt")


def test_a_sharded_checkpoint_is_a_folder(tmp_path: Path) -> None:
    torch.save(checkpoint(), tmp_path / "meta.pt")
    assert_read(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(NoSnapshot, match=r"is a folder without meta\.pt or"):
        read_snapshot(tmp_path / "empty")


def test_without_a_snapshot_the_file_is_named(tmp_path: Path) -> None:
    torch.save({"state_dict": {}}, tmp_path / "old.ckpt")
    with pytest.raises(NoSnapshot, match=r"old\.ckpt: This checkpoint carries no code"):
        read_snapshot(tmp_path / "old.ckpt")


def zipped(**members: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name.replace("_", "."), data)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no checkpoint",
        zipped(readme_txt=b"hello"),
        zipped(data_pkl=b"no pickle"),
        zipped(data_pkl=pickle.dumps({"a": 1})[:-3]),
        # A list that is put into itself by the pickle's own memory, and calls of what it does not have.
        zipped(data_pkl=b"\x80\x02cos\nsystem\nX\x02\x00\x00\x00lsR."),
    ],
    ids=["empty", "text", "zip", "no-pickle", "cut-pickle", "calls"],  # an archive holds the time
)
def test_what_is_no_checkpoint_is_refused_in_a_sentence(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "x.ckpt").write_bytes(data)
    with pytest.raises((Malformed, NoSnapshot)):
        read_snapshot(tmp_path / "x.ckpt")


def test_a_file_that_unpacks_to_more_than_memory_is_refused(tmp_path: Path) -> None:
    """600 MB of zeros take 600 kB packed."""
    (tmp_path / "x.ckpt").write_bytes(zipped(data_pkl=b"\0" * 600_000_000))
    assert (tmp_path / "x.ckpt").stat().st_size < 1_000_000
    with pytest.raises(Malformed, match="600,000,000 bytes"):
        read_snapshot(tmp_path / "x.ckpt")


def test_a_file_that_is_not_there_is_an_error_of_the_system(tmp_path: Path) -> None:
    with pytest.raises(OSError):
        read_snapshot(tmp_path / "none.ckpt")


@pytest.mark.parametrize("instruction", [b"(", b"]"])
def test_a_small_file_does_not_take_much_memory(tmp_path: Path, instruction: bytes) -> None:
    """Compressed, sixteen million instructions take as many bytes as a page of text, and a gigabyte when read."""
    with zipfile.ZipFile(tmp_path / "x.ckpt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02" + instruction * 16_000_000)
    with pytest.raises(Malformed, match=r"its plain data is compressed, as torch.save never does"):
        read_snapshot(tmp_path / "x.ckpt")


def test_what_has_more_parts_than_any_checkpoint_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lightning_debugkit.core.plain_pickle._MOST_STEPS", 1000)
    torch.save({KEY: embedded(MANIFEST, SOURCE), "state": list(range(2000))}, tmp_path / "x.ckpt")
    with pytest.raises(Malformed, match="its plain data has more than 1,000 parts"):
        read_snapshot(tmp_path / "x.ckpt")
