"""A run that is told to end (SIGTERM) saves where it is, and goes on exactly from there."""

from __future__ import annotations

import inspect
import os
import signal
from functools import partial
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
from checkpointing.resume.interrupted import Net, causes, loader, same, told, train
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.utilities.exceptions import SIGTERMException

from lightning_debugkit import ExactResume, NestedCheckpoint
from lightning_debugkit.checkpointing.records import read_records
from lightning_debugkit.checkpoints import Latest
from lightning_debugkit.core.journal import read_journal

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*:UserWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]

val = partial(loader, shuffle=False, n=8)


class Preempted(pl.Callback):
    """The process gets a SIGTERM in the middle of a batch, as a spot machine or Slurm sends it."""

    def __init__(self, batches: int) -> None:
        self.batches = batches

    def on_before_backward(self, trainer: pl.Trainer, *args: Any) -> None:
        if trainer.fit_loop.total_batch_idx + 1 == self.batches:
            os.kill(os.getpid(), signal.SIGTERM)


def preempt(folder: Path, name: str, batches: int, **program: Any) -> Path:
    """Fit until the signal comes, and return the folder of the run."""
    keeps = NestedCheckpoint(dirpath=folder / "saved", **program.pop("keeps", {}))
    with pytest.raises(SIGTERMException):
        train(folder / name, Net, callbacks=[ExactResume(), Preempted(batches), keeps], **program)
    return folder / name


def goes_on(folder: Path, **program: Any) -> pl.LightningModule:
    keeps = NestedCheckpoint(dirpath=folder / "saved")
    program = {"seed": 99, "ckpt_path": "last", **program}
    return train(folder / "goes on", Net, callbacks=[ExactResume(), keeps], **program)


@pytest.mark.parametrize(
    "program",
    [{}, {"make": partial(loader, 1)}, {"val": val, "val_check_interval": 2}, {"keeps": {"async_save": True}}],
)
def test_it_saves_within_the_epoch_and_goes_on_exactly(program: dict[str, Any], tmp_path: Path) -> None:
    usual = {name: value for name, value in program.items() if name != "keeps"}
    uninterrupted = train(tmp_path / "whole", Net, callbacks=[ExactResume()], **usual)
    run = preempt(tmp_path, "stopped", 9, **program)
    assert max(record.step for record in read_records(tmp_path / "saved")) == 9
    files = [
        event["value"] for event in read_journal(run / "debugkit").of_kind("measure") if event["name"] == "checkpoint"
    ]
    assert (files[-1]["step"], "left by a SIGTERM" in files[-1]["reasons"]) == (9, True)
    assert same(uninterrupted, goes_on(tmp_path, **usual))
    assert told(tmp_path / "goes on") == []


def test_twice_in_one_epoch(tmp_path: Path) -> None:
    uninterrupted = train(tmp_path / "whole", Net, callbacks=[ExactResume()])
    preempt(tmp_path, "1", 8)
    preempt(tmp_path, "2", 10, seed=7, ckpt_path="last")
    assert same(uninterrupted, goes_on(tmp_path))
    assert causes(tmp_path / "goes on") == causes(tmp_path / "2") == []


def test_at_the_end_of_an_epoch(tmp_path: Path) -> None:
    uninterrupted = train(tmp_path / "whole", Net, callbacks=[ExactResume()])
    preempt(tmp_path, "stopped", 12)
    assert same(uninterrupted, goes_on(tmp_path))


class At(pl.Callback):
    """The process gets a SIGTERM when this hook is called so many times."""

    def __init__(self, hook: str, times: int) -> None:
        self.left = times
        setattr(self, hook, self.told)

    def told(self, *args: Any) -> None:
        self.left -= 1
        if not self.left:
            os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.parametrize(
    ("hook", "times", "program"),
    [
        ("on_train_start", 1, {}),
        ("on_validation_batch_start", 1, {"val": val, "num_sanity_val_steps": 1}),
        ("on_validation_epoch_end", 2, {"val": val}),
        ("on_train_epoch_end", 2, {}),
        ("on_save_checkpoint", 3, {}),
        ("on_save_checkpoint", 3, {"async_save": True}),
        ("on_before_zero_grad", 9, {"async_save": True}),
    ],
)
def test_wherever_the_signal_strikes_it_goes_on_exactly(
    hook: str, times: int, program: dict[str, Any], tmp_path: Path
) -> None:
    program = dict(program)
    keeps = {"rules": [Latest(every_n_steps=2)], "async_save": program.pop("async_save", False)}
    uninterrupted = train(tmp_path / "whole", Net, callbacks=[ExactResume()], **program)
    saves = NestedCheckpoint(dirpath=tmp_path / "saved", **keeps)
    with pytest.raises(SIGTERMException):
        train(tmp_path / "stopped", Net, callbacks=[ExactResume(), At(hook, times), saves], **program)
    assert same(uninterrupted, goes_on(tmp_path, **program))
    assert told(tmp_path / "goes on") == []


def test_a_validation_that_was_cut_short_is_told(tmp_path: Path) -> None:
    saves = NestedCheckpoint(dirpath=tmp_path / "saved")
    cut = At("on_validation_batch_start", 3)
    with pytest.raises(SIGTERMException):
        train(tmp_path / "stopped", Net, val=val, callbacks=[ExactResume(), cut, saves])
    assert [record.step for record in read_records(tmp_path / "saved")] == [6]
    goes_on(tmp_path, val=val)
    assert causes(tmp_path / "goes on") == ["validation"]


def test_another_exception_saves_only_where_that_was_asked_for(tmp_path: Path) -> None:
    class Breaks(pl.Callback):
        def on_train_batch_end(self, trainer: pl.Trainer, *args: Any) -> None:
            if trainer.global_step == 9:
                raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"):
        train(tmp_path, Net, callbacks=[Breaks(), NestedCheckpoint(dirpath=tmp_path / "saved")])
    assert [record.step for record in read_records(tmp_path / "saved")] == [6]


@pytest.mark.skipif(
    "save_on_exception" not in inspect.signature(ModelCheckpoint).parameters, reason="Lightning 2.5.3 has the argument"
)
def test_exact_resume_goes_on_from_a_stock_file_of_the_signal(tmp_path: Path) -> None:
    uninterrupted = train(tmp_path / "whole", Net, callbacks=[ExactResume()])
    keeps = ModelCheckpoint(dirpath=tmp_path / "saved", save_on_exception=True, save_last=True)
    with pytest.raises(SIGTERMException):
        train(tmp_path / "stopped", Net, callbacks=[ExactResume(), Preempted(9), keeps])
    again = train(tmp_path / "on", Net, seed=99, callbacks=[ExactResume()], ckpt_path=tmp_path / "saved" / "last.ckpt")
    assert same(uninterrupted, again)
