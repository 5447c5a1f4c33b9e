"""A checkpoint that lies in an object store gives its model and its code as one on the disk does."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import fsspec
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from provenance.packages import fit

from lightning_debugkit import CodeSnapshot, NestedCheckpoint, load_model
from lightning_debugkit.checkpointing.find_checkpoints import at_hand
from lightning_debugkit.checkpointing.verification import DamagedCheckpoint
from lightning_debugkit.cli import main

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:lightning")


@pytest.fixture
def url() -> Iterator[str]:
    name = f"memory://bucket-{uuid4().hex[:8]}/run"
    yield name
    fs, root = fsspec.core.url_to_fs(name)
    if fs.exists(root):
        fs.rm(root, recursive=True)


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return folder


@pytest.mark.parametrize("kind", [NestedCheckpoint, ModelCheckpoint])
def test_a_model_is_loaded_by_its_url(kind: type[ModelCheckpoint], project: Path, url: str, scratch: Path) -> None:
    """Of a callback of ours, whose files have records, and of a stock one."""
    saver = kind(dirpath=url)
    trainer = fit(project, CodeSnapshot(), saver)
    trained = trainer.lightning_module.state_dict()
    path = saver.best_model_path or saver.last_model_path
    assert path.startswith("memory://")
    for code in ("current", "snapshot"):
        model: Any = load_model(path, code=code, trust_code=True)
        assert all(torch.equal(value, trained[name]) for name, value in model.state_dict().items())
    assert list(scratch.rglob("*.ckpt")) == [], "the copy is gone"


def test_the_commands_take_urls(project: Path, url: str, scratch: Path, capsys: pytest.CaptureFixture[str]) -> None:
    saver = NestedCheckpoint(dirpath=url)
    fit(project, CodeSnapshot(note="in a bucket"), saver)
    path = saver.last_model_path
    assert main(["show", path]) == 0
    assert "in a bucket" in capsys.readouterr().out
    assert main(["diff", path, path]) == 0
    assert main(["restore", path, "--to", str(scratch / "code")]) == 0
    assert (scratch / "code" / project.name / "model.py").is_file()
    assert list(scratch.rglob("*.ckpt")) == [], "the copy is gone"


def test_bytes_that_have_changed_in_the_store_are_refused(project: Path, url: str, scratch: Path) -> None:
    saver = NestedCheckpoint(dirpath=url)
    fit(project, CodeSnapshot(), saver)
    path = saver.last_model_path
    fs, key = fsspec.core.url_to_fs(path)
    data = bytearray(fs.cat_file(key))
    data[len(data) // 2] ^= 1
    fs.pipe_file(key, bytes(data))
    with pytest.raises(DamagedCheckpoint, match=f"^{path} is damaged: "):
        load_model(path)
    assert list(scratch.rglob("*.ckpt")) == [], "the copy is gone"


def test_what_is_not_there_is_said_in_one_sentence(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(FileNotFoundError, match=f"^There is no checkpoint '{url}/no.ckpt'; check the URL.$"):
        load_model(f"{url}/no.ckpt")
    with pytest.raises(ValueError, match=r"^A package is needed to read 'nowhere://bucket/x.ckpt': Protocol not known"):
        load_model("nowhere://bucket/x.ckpt")
    assert main(["show", f"{url}/no.ckpt"]) == 2
    assert f"There is no checkpoint '{url}/no.ckpt'" in capsys.readouterr().err


def test_a_folder_without_a_record_is_brought_as_it_is(url: str) -> None:
    fs, root = fsspec.core.url_to_fs(f"{url}/step=3.ckpt")
    fs.makedirs(root)
    for name in ("meta.pt", ".metadata", "__0_0.distcp"):
        fs.pipe_file(f"{root}/{name}", name.encode())
    with at_hand(f"{url}/step=3.ckpt/") as path:
        held = {each.name: each.read_text() for each in path.iterdir()}
    assert held == {name: name for name in ("meta.pt", ".metadata", "__0_0.distcp")}
    assert not path.exists()
