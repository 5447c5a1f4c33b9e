"""Fits in a child that is killed while it saves, and what is then on the disk."""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import random
import signal
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from checkpointing.marked import Marked, batches, fault, step_of
from lightning.pytorch.callbacks import ModelCheckpoint

STEPS_AN_EPOCH = 4


@dataclass(frozen=True)
class Plan:
    """How a child trains.

    Args:
        folder: Where it keeps its checkpoints.
        temporary: Its folder for temporary files.
        callback: Makes the checkpoint callback, given the folder.
        options: More arguments of the Trainer.
        megabytes: Of a checkpoint.
    """

    folder: Path
    temporary: Path
    callback: Callable[[Path], ModelCheckpoint]
    options: Callable[[], dict[str, Any]] = dict
    megabytes: float = 1.0


class Teller(pl.Callback):
    """Tell the parent from which step the fit goes on, and each checkpoint that is said to be there."""

    def __init__(self, wire: int, checkpoint: ModelCheckpoint) -> None:
        self.wire, self.checkpoint = wire, checkpoint
        self.told = ""

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._tell("resumed", trainer.global_step)
        self.told = self.checkpoint.last_model_path

    def on_train_batch_start(self, *args: Any) -> None:
        if self.checkpoint.last_model_path != self.told:
            self.told = self.checkpoint.last_model_path
            record = Path(f"{self.told}.json")
            if record.exists():
                self._tell("saved", json.loads(record.read_text())["step"])

    def _tell(self, what: str, step: int) -> None:
        os.write(self.wire, f"{what} {step}\n".encode())  # shorter than PIPE_BUF: never half a line


def fit(plan: Plan, wire: int, last_step: int) -> None:
    """Go on from the last checkpoint, in a child; for ever, if ``last_step`` is -1."""
    os.environ["TMPDIR"] = str(plan.temporary)
    tempfile.tempdir = None
    sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: PTH123, SIM115 (of the child alone, to its end)
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    torch.manual_seed(0)
    callback = plan.callback(plan.folder)
    trainer = pl.Trainer(
        max_steps=last_step,
        max_epochs=-1,
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        callbacks=[Teller(wire, callback), callback],
        **{"default_root_dir": plan.folder.parent, **plan.options()},
    )
    trainer.fit(Marked(plan.megabytes), batches(STEPS_AN_EPOCH), batches(1), ckpt_path="last")
    os.write(wire, b"ended 0\n")


@dataclass(frozen=True)
class Trial:
    """What a child told before it was killed, or ended.

    Args:
        resumed: The step it went on from; None if it did not get that far.
        saved: The newest step it was told to be saved; None if none was.
        ended: Whether it came to its end.
        code: Its exit code.
    """

    resumed: int | None = None
    saved: int | None = None
    ended: bool = False
    code: int | None = None


class Lines:
    """The lines that came through a pipe so far, from the process ``child``."""

    def __init__(self, wire: int, child: int) -> None:
        self.wire, self.child, self.text, self.closed = wire, child, "", False
        os.set_blocking(wire, False)

    def read(self) -> str:
        while True:
            try:
                some = os.read(self.wire, 1 << 16)
            except BlockingIOError:
                return self.text
            if not some:
                self.closed = True  # the child is gone
                return self.text
            self.text += some.decode()

    def trial(self, code: int | None) -> Trial:
        told = [line.split() for line in self.read().splitlines()]
        of = {what: int(step) for what, step in told}
        return Trial(of.get("resumed"), of.get("saved"), "ended" in of, code)


Moment = Callable[[Lines], None]


def run(plan: Plan, moment: Moment | None, last_step: int = -1, patience: float = 120) -> Trial:
    """Fit in a child; kill it, as the system would, once ``moment`` returns."""
    ends, wire = os.pipe()
    child = multiprocessing.get_context("fork").Process(target=fit, args=(plan, wire, last_step), daemon=True)
    child.start()
    os.close(wire)
    assert child.pid is not None
    lines = Lines(ends, child.pid)
    try:
        if moment is not None:
            moment(lines)
            child.kill()
        child.join(patience)
        return lines.trial(child.exitcode)
    finally:
        child.kill()
        child.join()
        os.close(ends)


def at_once(chance: random.Random) -> Moment:
    """While the fit is set up: it looks at what the last one left."""
    return lambda lines: time.sleep(chance.uniform(0.02, 0.3))


def in_training(chance: random.Random, longest: float = 0.15) -> Moment:
    """At some time after it has gone on."""

    def wait(lines: Lines) -> None:
        until(lambda: "resumed" in lines.read() or lines.closed)
        time.sleep(chance.uniform(0, longest))

    return wait


def in_a_write(chance: random.Random, plan: Plan, longest: float) -> Moment:
    """Some time after a file was begun that is not finished: the child is held while that is looked at.

    On a busy machine a write is often over before this process has its turn again.
    """

    def wait(lines: Lines) -> None:
        in_training(chance, 0.1)(lines)
        for _ in range(chance.randrange(16)):  # a save changes the folder four times and more
            known = {entry.name for entry in _entries(plan.folder)}
            until(lambda known=known: lines.closed or known != {entry.name for entry in _entries(plan.folder)}, 2.0)
            lines.read()
        old = set(drafts(plan))

        def is_caught() -> bool:
            if lines.closed or not set(drafts(plan)) - old:
                lines.read()
                return lines.closed
            time.sleep(chance.uniform(0, longest))
            os.kill(lines.child, signal.SIGSTOP)
            os.waitid(os.P_PID, lines.child, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
            if set(drafts(plan)) - old:
                return True
            os.kill(lines.child, signal.SIGCONT)
            return False

        until(is_caught, 10.0)

    return wait


def moments(chance: random.Random, plan: Plan, longest_write: float = 0.003) -> Iterator[Moment]:
    """One kill in four strikes at any time of training, one in the set-up, two in a write."""
    while True:
        yield in_a_write(chance, plan, longest_write)
        yield in_training(chance)
        yield in_a_write(chance, plan, longest_write)
        yield at_once(chance)


def until(true: Callable[[], bool], patience: float = 60) -> bool:
    """Wait until it is true, or for so many seconds; return whether it is."""
    ends = time.monotonic() + patience
    while not true():
        if time.monotonic() > ends:
            return False
        time.sleep(0.0002)
    return True


def drafts(plan: Plan) -> list[str]:
    """Files that are being written: in the folder without the name of a checkpoint, and all temporary ones."""
    here = [entry.name for entry in _entries(plan.folder) if not entry.name.endswith((".ckpt", ".json"))]
    return here + [entry.name for entry in _entries(plan.temporary)]


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except FileNotFoundError:
        return []


@dataclass
class Left:
    """What is on the disk.

    Args:
        whole: The steps of the files that are sound, under the name of a checkpoint.
        broken: Names of those that are not, each with the reason.
        committed: Steps that have a record.
        loose: Names of records whose file is not there.
        drafts: Names of unfinished files.
    """

    whole: set[int] = field(default_factory=set)
    broken: dict[str, str] = field(default_factory=dict)
    committed: set[int] = field(default_factory=set)
    loose: list[str] = field(default_factory=list)
    drafts: list[str] = field(default_factory=list)


def look(plan: Plan) -> Left:
    """Judge every file by its bytes."""
    left = Left(drafts=drafts(plan))
    for path in sorted(plan.folder.glob("*.ckpt")):
        if path.is_symlink():
            continue
        reason = fault(path)
        if reason:
            left.broken[path.name] = reason
        else:
            left.whole.add(step_of(path))
    for record in sorted(plan.folder.glob("*.ckpt.json")):
        left.committed.add(json.loads(record.read_text())["step"])
        if not record.with_suffix("").exists():
            left.loose.append(record.name)
    return left
