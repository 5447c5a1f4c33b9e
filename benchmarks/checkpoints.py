"""What a kill leaves of checkpoints, and what a save costs: the kit beside Lightning's own callback.

    python benchmarks/checkpoints.py kills [--trials 75] [--megabytes 16]
    python benchmarks/checkpoints.py shards [--trials 100] [--folder DISK]
    python benchmarks/checkpoints.py cost [--rounds 40] [--megabytes 1 16 64] [--folder DISK]

``kills``: a child saves in every other step and is killed with SIGKILL, at any time, in its set-up or in a write; the
next one goes on from what is left. Each row is repeated with ``TMPDIR`` on the filesystem of the checkpoints and on
another. ``shards``: the same for two ranks that save in shards in each step, of which one or both are killed. ``cost``:
each variant is a real fit in a thread of its own, and all save in turn, in an order that is shuffled each round; an
epoch without a checkpoint callback is taken off; printed are the medians of the ratios of a round.
Budgets of ``NestedCheckpoint``: 1.05 of ``ModelCheckpoint`` for the same files, fsync apart, and 0.6 of it with
``save_last=True``.
"""

from __future__ import annotations

import argparse
import logging
import os
import random
import shutil
import sys
import tempfile
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.plugins.io import AsyncCheckpointIO
from overhead import Baton

from lightning_debugkit import AtomicCheckpointIO, NestedCheckpoint
from lightning_debugkit.checkpoints import Latest
from lightning_debugkit.core.callback import DebugCallback

_HERE = sys.path.pop(0)  # this file is called as the folder of the tests is
sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from checkpointing.killing import Left, Plan, drafts, look, moments, run, until  # noqa: E402 - found there only now
from checkpointing.marked import Marked, batches  # noqa: E402 - as above
from checkpointing.sharding import lives  # noqa: E402 - as above

OTHER = Path("/dev/shm")


def newest(folder: Path, **options: Any) -> ModelCheckpoint:
    """Lightning's way to have the two latest, and a last one to go on from."""
    return ModelCheckpoint(folder, monitor="step", mode="max", save_top_k=2, every_n_train_steps=2, **options)


def nested(folder: Path, **options: Any) -> ModelCheckpoint:
    return NestedCheckpoint(folder, rules=[Latest(n=2, every_n_steps=2)], **options)


Killed = tuple[Callable[[Path], ModelCheckpoint], Callable[[], dict[str, Any]]]
KILLED: dict[str, Killed] = {
    "ModelCheckpoint": (lambda folder: newest(folder, save_last=True), dict),
    "ModelCheckpoint, AsyncCheckpointIO": (
        lambda folder: newest(folder, save_last=True),
        lambda: {"plugins": [AsyncCheckpointIO()]},
    ),
    "ModelCheckpoint, AtomicCheckpointIO": (
        lambda folder: newest(folder, save_last=True),
        lambda: {"plugins": [AtomicCheckpointIO()]},
    ),
    "NestedCheckpoint": (nested, dict),
    "NestedCheckpoint(async_save=True)": (lambda folder: nested(folder, async_save=True), dict),
}
COUNTED = ("in a write", "broken file", "not resumed", "not the newest", "nothing left")


def kill(plan: Plan, trials: int, chance: random.Random) -> Counter[str]:
    """Count, over so many kills, what they did; a folder that cannot be gone on from is begun anew."""
    counts: Counter[str] = Counter()
    before = Left()
    for _, moment in zip(range(trials), moments(chance, plan, longest_write=0.05), strict=False):
        trial = run(plan, moment)
        left = look(plan)
        newest_before = max(before.whole, default=0)
        dead = trial.resumed is None and trial.code not in (0, -9)
        counts["in a write"] += bool(set(left.drafts) - set(before.drafts))
        counts["broken file"] += bool(set(left.broken) - set(before.broken))
        counts["not resumed"] += dead
        counts["not the newest"] += trial.resumed is not None and trial.resumed < newest_before
        counts["nothing left"] += bool(before.whole) and not left.whole
        before = left
        if dead or not left.whole:
            shutil.rmtree(plan.folder, ignore_errors=True)
            before = Left(drafts=drafts(plan))
    litter = [*plan.temporary.iterdir(), *plan.folder.glob(".*")]
    counts["litter"] = sum(path.stat().st_size for path in litter if path.is_file()) // 1_000_000
    return counts


def kills(options: argparse.Namespace) -> None:
    head = ["", "TMPDIR", "kills", *COUNTED, "litter, MB"]
    print("| " + " | ".join(head) + " |\n|" + "---|" * len(head), flush=True)
    for other in (False, True):
        for name, (callback, extra) in KILLED.items():
            if options.only and options.only not in name:
                continue
            with (
                tempfile.TemporaryDirectory(dir=options.folder, ignore_cleanup_errors=True) as here,
                tempfile.TemporaryDirectory(dir=OTHER if other else here) as temporary,
            ):
                plan = Plan(Path(here) / "checkpoints", Path(temporary), callback, extra, options.megabytes)
                counts = kill(plan, options.trials, random.Random(options.seed))
            row = [name, "other disk" if other else "same disk", options.trials]
            row += [counts[what] for what in (*COUNTED, "litter")]
            print("| " + " | ".join(map(str, row)) + " |", flush=True)


def shards(options: argparse.Namespace) -> None:
    told: Counter[str] = Counter()
    with tempfile.TemporaryDirectory(dir=options.folder, ignore_cleanup_errors=True) as here:
        for life in lives(Path(here), options.trials, random.Random(options.seed)):
            told["lives"] += 1
            told["steps saved"] = life.after
            told["in a write"] += bool(life.drafts)
            told["unsound"] += len(life.unsound)
            told["went back"] += life.after < life.before
            told["not resumed"] += life.resumed is None
            told["not the newest"] += life.resumed not in (None, life.before)
    print("| " + " | ".join(told) + " |\n|" + "---|" * len(told))
    print("| " + " | ".join(map(str, told.values())) + " |", flush=True)


class Falling(Marked):
    """Gets better in each epoch, so that each is among the best; its weights are in a hundred tensors."""

    def __init__(self, megabytes: float) -> None:
        super().__init__()
        for index in range(100):
            self.register_buffer(f"part_{index}", torch.randn(int(megabytes * 2_500)))

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("score", torch.tensor(-float(self.global_step)))


BARE, STOCK, TWICE = "nothing", "ModelCheckpoint", "ModelCheckpoint(save_last=True)"
SYNCED, APART = "NestedCheckpoint", "NestedCheckpoint, fsync apart"
SAVED: dict[str, Killed | None] = {
    BARE: None,
    STOCK: (lambda folder: ModelCheckpoint(folder, monitor="score", save_top_k=2), dict),
    "ModelCheckpoint, again": (lambda folder: ModelCheckpoint(folder, monitor="score", save_top_k=2), dict),
    "NestedCheckpoint(fsync=False)": (
        lambda folder: NestedCheckpoint(folder, monitor="score", top_k=2, fsync=False),
        dict,
    ),
    SYNCED: (lambda folder: NestedCheckpoint(folder, monitor="score", top_k=2), dict),
    "NestedCheckpoint(async_save=True)": (
        lambda folder: NestedCheckpoint(folder, monitor="score", top_k=2, async_save=True),
        dict,
    ),
    TWICE: (lambda folder: ModelCheckpoint(folder, monitor="score", save_top_k=2, save_last=True), dict),
}


# Both write beside the training, and so into the time of the others: only when asked for.
WIDE: dict[str, Killed] = {
    "NestedCheckpoint, object store": (
        lambda folder: NestedCheckpoint(f"memory://{folder.parent.name}", monitor="score", top_k=2),
        dict,
    ),
    "AsyncCheckpointIO": (
        lambda folder: ModelCheckpoint(folder, monitor="score", save_top_k=2),
        lambda: {"plugins": [AsyncCheckpointIO()]},
    ),
}


class Fsync:
    """Times ``os.fsync``, whoever calls it in whichever thread."""

    def __init__(self) -> None:
        self.seconds, self.real = 0.0, os.fsync

    def __call__(self, fd: int) -> None:
        began = time.perf_counter()
        self.real(fd)
        self.seconds += time.perf_counter() - began


class Clock(pl.Callback):
    """Time each epoch: a step, a validation and a save; let the other variants run between two."""

    def __init__(self, name: str, baton: Baton, plan: Plan, fsync: Fsync) -> None:
        self.name, self.baton, self.plan, self.fsync = name, baton, plan, fsync
        self.times: list[float] = []
        self.work: list[float] = []
        self.fsyncs: list[float] = []
        self.began: tuple[float, float] | None = None

    def on_train_epoch_start(self, *args: Any) -> None:
        if self.began is not None:
            self.times.append(time.perf_counter() - self.began[0])
            self.work.append(time.process_time() - self.began[1])
            self.fsyncs.append(self.fsync.seconds)
            until(lambda: not any(name.startswith(".") for name in drafts(self.plan)))  # what is written beside
            self.baton.hand_on()
        self.baton.take(self.name)
        self.fsync.seconds = 0.0
        self.began = (time.perf_counter(), time.process_time())


def save(clock: Clock, rounds: int, megabytes: float) -> None:
    """Fit one variant, an epoch a turn."""
    variant = SAVED[clock.name]
    callbacks = [] if variant is None else [variant[0](clock.plan.folder)]
    trainer = pl.Trainer(
        max_epochs=rounds + 1,
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_checkpointing=bool(callbacks),
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        default_root_dir=clock.plan.folder.parent,
        callbacks=[clock, *callbacks],
        **({} if variant is None else variant[1]()),
    )
    trainer.fit(Falling(megabytes), batches(1), batches(1))
    clock.baton.hand_on()


def ratios(mine: list[float], theirs: list[float], bare: list[float]) -> list[float]:
    """Of each round, the time of a save to that of another, what an epoch takes without one taken off both."""
    off = median(bare)
    return [(one - off) / (other - off) for one, other in zip(mine, theirs, strict=True)]


def cost(options: argparse.Namespace) -> None:
    warm_up = 3
    os.fsync = fsync = Fsync()
    with tempfile.TemporaryDirectory(dir=options.folder, ignore_cleanup_errors=True) as here:
        tempfile.tempdir = here  # the best case of Lightning: its temporary files on the disk of the checkpoints
        baton = Baton(list(SAVED))
        plans = [Plan(Path(here) / str(index) / "checkpoints", Path(here), nested) for index in range(len(SAVED))]
        clocks = {name: Clock(name, baton, plan, fsync) for name, plan in zip(SAVED, plans, strict=True)}
        threads = [
            threading.Thread(target=save, args=(clock, options.rounds + warm_up, options.megabytes))
            for clock in clocks.values()
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    tempfile.tempdir, os.fsync = None, fsync.real
    waits = clocks[SYNCED].fsyncs[warm_up:]
    for measured in ("times", "work"):
        times = {name: getattr(clock, measured)[warm_up:] for name, clock in clocks.items()}
        if measured == "times":
            times[APART] = [whole - wait for whole, wait in zip(times[SYNCED], waits, strict=True)]
        table({"times": "wall clock", "work": "processor time"}[measured], options.megabytes, times)
    per_save = median(waits) * 1e3
    print(f"\nfsync by itself: {per_save:.1f} ms a save, {per_save / options.megabytes:.2f} ms a MB", flush=True)


def table(measured: str, megabytes: float, times: dict[str, list[float]]) -> None:
    bare = times.pop(BARE)
    print(f"\n{megabytes:g} MB, {len(bare)} rounds, {measured}; an epoch without a save: {median(bare) * 1e3:.1f} ms")
    print(f"| {'':33} | ms a save | of {STOCK} | quartiles | of {TWICE} | quartiles |\n|{'---|' * 6}")
    for name, found in times.items():
        cells = [f"{(median(found) - median(bare)) * 1e3:.1f}"]
        for other in (STOCK, TWICE):
            low, middle, high = quantiles(ratios(found, times[other], bare), n=4)
            cells += [f"{middle:.3f}", f"{low:.3f} - {high:.3f}"]
        print(f"| {name:33} | {' | '.join(cells)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["kills", "shards", "cost"])
    parser.add_argument("--trials", type=int, default=75, help="kills a row; four rows are NestedCheckpoint's")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--megabytes", type=float, nargs="+", help="of a checkpoint; cost takes several")
    parser.add_argument("--folder", help="where to save; the folder for temporary files if not given")
    parser.add_argument("--only", help="part of the name of the rows to kill")
    parser.add_argument("--wide", action="store_true", help="cost: an object store and AsyncCheckpointIO, too")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    sizes = options.megabytes or {"kills": [16], "shards": [0], "cost": [1, 16, 64]}[options.what]
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    DebugCallback._render = lambda self, run: None  # type: ignore[method-assign]  # at the end of fit, not in a save
    SAVED.update(WIDE if options.wide else {})
    for options.megabytes in sizes:
        {"kills": kills, "shards": shards, "cost": cost}[options.what](options)


if __name__ == "__main__":
    main()
