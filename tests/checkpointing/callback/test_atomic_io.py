"""Any checkpoint callback's files are whole with AtomicCheckpointIO, and none is loaded whose bytes have changed."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
from checkpointing.folders import flip
from checkpointing.saving import Scored, train
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO
from packaging.version import Version

from lightning_debugkit import AtomicCheckpointIO
from lightning_debugkit.checkpointing import serialization
from lightning_debugkit.checkpointing.verification import DamagedCheckpoint

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:lightning", "ignore::FutureWarning")
CHECKPOINT = {"state_dict": {"w": torch.arange(10_000.0)}, "global_step": 3}


def test_what_is_saved_loads_as_what_lightning_saves(tmp_path: Path) -> None:
    for name, io in (("ours", AtomicCheckpointIO()), ("stock", TorchCheckpointIO())):
        io.save_checkpoint(CHECKPOINT, tmp_path / name / "deep" / "a.ckpt")
    for reader in (AtomicCheckpointIO(), TorchCheckpointIO()):
        for name in ("ours", "stock"):
            loaded = reader.load_checkpoint(tmp_path / name / "deep" / "a.ckpt")
            assert torch.equal(loaded["state_dict"]["w"], CHECKPOINT["state_dict"]["w"])
    assert [path.name for path in (tmp_path / "ours" / "deep").iterdir()] == ["a.ckpt"]


def test_nothing_passes_through_the_folder_for_temporary_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On another disk than the checkpoints, which is usual on a cluster, that is a copy: a kill leaves it half done."""

    def refused(*_: Any, **__: Any) -> None:
        raise OSError("not here")

    monkeypatch.setattr(tempfile, "mkstemp", refused)
    with pytest.raises(OSError, match="not here"):
        TorchCheckpointIO().save_checkpoint(CHECKPOINT, str(tmp_path / "a.ckpt"))
    AtomicCheckpointIO().save_checkpoint(CHECKPOINT, str(tmp_path / "a.ckpt"))
    assert (tmp_path / "a.ckpt").exists()


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    io = AtomicCheckpointIO()
    io.save_checkpoint(CHECKPOINT, tmp_path / "a.ckpt")
    before = (tmp_path / "a.ckpt").read_bytes()

    def half(checkpoint: Any, path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(serialization, "save_bytes", half)
    with pytest.raises(OSError, match="full"):
        io.save_checkpoint({}, tmp_path / "a.ckpt")
    assert [path.name for path in tmp_path.iterdir()] == ["a.ckpt"]
    assert (tmp_path / "a.ckpt").read_bytes() == before


def test_a_folder_that_may_not_be_written_raises_where_lightning_is_silent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(*_: Any, **__: Any) -> None:
        raise PermissionError(errno.EACCES, "denied")

    monkeypatch.setattr(Path, "mkdir", denied)
    with pytest.raises(PermissionError):
        AtomicCheckpointIO().save_checkpoint(CHECKPOINT, tmp_path / "a.ckpt")
    monkeypatch.undo()
    if Version(lightning.__version__) >= Version("2.6"):
        monkeypatch.setattr("shutil.move", denied)
        TorchCheckpointIO().save_checkpoint(CHECKPOINT, tmp_path / "b.ckpt")
        assert not (tmp_path / "b.ckpt").exists()


def test_flipped_bits_are_not_loaded(tmp_path: Path) -> None:
    AtomicCheckpointIO().save_checkpoint(CHECKPOINT, tmp_path / "a.ckpt")
    flip(tmp_path / "a.ckpt", 0.5)
    TorchCheckpointIO().load_checkpoint(tmp_path / "a.ckpt")
    AtomicCheckpointIO(verify=False).load_checkpoint(tmp_path / "a.ckpt")
    with pytest.raises(DamagedCheckpoint, match=r"a.ckpt is damaged: its part archive/data/0 fails its CRC-32; load"):
        AtomicCheckpointIO().load_checkpoint(tmp_path / "a.ckpt")


def test_files_that_are_no_zip_load_as_before(tmp_path: Path) -> None:
    torch.save(CHECKPOINT, tmp_path / "old.ckpt", _use_new_zipfile_serialization=False)
    assert AtomicCheckpointIO().load_checkpoint(tmp_path / "old.ckpt")["global_step"] == 3
    with pytest.raises(FileNotFoundError):
        AtomicCheckpointIO().load_checkpoint(tmp_path / "none.ckpt")


def test_an_object_store_is_left_to_lightning(tmp_path: Path) -> None:
    io = AtomicCheckpointIO()
    io.save_checkpoint(CHECKPOINT, "memory://somewhere/a.ckpt")
    assert io.load_checkpoint("memory://somewhere/a.ckpt")["global_step"] == 3
    io.remove_checkpoint("memory://somewhere/a.ckpt")
    with pytest.raises(FileNotFoundError):
        io.load_checkpoint("memory://somewhere/a.ckpt")


def test_storage_options_are_refused_as_lightning_does(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="storage_options"):
        AtomicCheckpointIO().save_checkpoint({}, tmp_path / "a.ckpt", storage_options=3)


def test_it_serves_stock_checkpoints_and_their_resume(tmp_path: Path) -> None:
    stock = ModelCheckpoint(tmp_path / "c", monitor="val_loss", save_top_k=2, save_last=True)
    train(tmp_path, stock, module=Scored([0.3, 0.2, 0.1]), plugins=[AtomicCheckpointIO()])
    assert sorted(path.name for path in (tmp_path / "c").iterdir()) == [
        "epoch=1-step=10.ckpt", "epoch=2-step=15.ckpt", "last.ckpt"
    ]  # fmt: skip
    trainer = train(tmp_path, stock, ckpt_path="last", max_epochs=4, plugins=[AtomicCheckpointIO()])
    assert trainer.global_step == 20


KILLED = """
import sys
import torch
from lightning_debugkit import AtomicCheckpointIO
from lightning_debugkit.checkpointing import serialization

io = AtomicCheckpointIO()
io.save_checkpoint({"w": torch.ones(1000)}, sys.argv[1])


def half(checkpoint, path):
    path.write_bytes(b"half a file")
    print("writing", flush=True)
    input()


serialization.save_bytes = half
io.save_checkpoint({"w": torch.zeros(1000)}, sys.argv[1])
"""


def test_killed_in_the_midst_of_saving_the_old_file_is_whole_and_leavings_are_swept(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", KILLED, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == b"writing\n"
        running.kill()
    assert AtomicCheckpointIO().load_checkpoint(path)["w"].sum() == 1000
    assert len(list(tmp_path.glob(".*.tmp"))) == 1
    AtomicCheckpointIO().save_checkpoint({"w": torch.zeros(1)}, tmp_path / "other.ckpt")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["last.ckpt", "other.ckpt"]


@pytest.mark.parametrize("arguments", [{"fsync": 1}, {"verify": None}])
def test_a_switch_that_is_none_is_told(arguments: Any) -> None:
    ((name, value),) = arguments.items()
    with pytest.raises(ValueError) as caught:
        AtomicCheckpointIO(**arguments)
    assert str(caught.value) == f"AtomicCheckpointIO needs {name} True or False, got {value!r}; True is usual."
