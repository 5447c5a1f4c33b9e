"""What a kill leaves of checkpoints, and what a save costs: the kit beside Lightning's own callback.

    python benchmarks/checkpoints.py kills [--trials 75] [--megabytes 16]
    python benchmarks/checkpoints.py shards [--trials 100] [--ranks 4] [--beside] [--folder DISK]
    python benchmarks/checkpoints.py store [--trials 100] [--megabytes 4]
    python benchmarks/checkpoints.py cost [--rounds 25] [--megabytes 1 16] [--form files shards] [--folder DISK]

``kills``: a child saves in every other step and is killed with SIGKILL, at any time, in its set-up or in a write; the
next one goes on from what is left. Each row is repeated with ``TMPDIR`` on the filesystem of the checkpoints and on
another. ``shards``: the same for ranks that save in shards in each step, of which one or all are killed. ``store``: the
same for an object store (`moto`'s server and `s3fs`, the extra `s3-test`), gone on from here or on another machine.
``cost``: each variant is a real fit in processes of its own, and all save in turn, in an order that is shuffled each
round; printed are the medians of the ratios of a round (``checkpoint_cost.py``).
Budgets of ``NestedCheckpoint``, time that the training waits: 1.0 of ``ModelCheckpoint`` at 1 MB, 0.75 at 16 and 64 MB,
and 0.6 of it with ``save_last=True`` at every size.
"""

from __future__ import annotations

import argparse
import logging
import os
import random
import shutil
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.plugins.io import AsyncCheckpointIO

from lightning_debugkit import AtomicCheckpointIO, NestedCheckpoint
from lightning_debugkit.checkpoints import Latest

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
import checkpoint_cost
from checkpointing import sending, sharding
from checkpointing.killing import Left, Plan, drafts, look, moments, run

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
        chance = random.Random(options.seed)
        for life in sharding.lives(Path(here), options.trials, chance, options.ranks, beside=options.beside):
            told["lives"] += 1
            told["steps saved"] = life.after
            told["in a write"] += bool(life.drafts)
            told["unsound"] += len(life.unsound)
            told["went back"] += life.after < life.before
            told["not resumed"] += life.resumed is None
            told["not the newest"] += life.resumed not in (None, life.before)
    _print(told)


def store(options: argparse.Namespace) -> None:
    import fsspec
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    os.environ |= {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}
    fsspec.config.conf["s3"] = {"endpoint_url": f"http://{host}:{port}"}
    fsspec.filesystem("s3").mkdir("bucket")
    told: Counter[str] = Counter()
    with tempfile.TemporaryDirectory(dir=options.folder, ignore_cleanup_errors=True) as here:
        chance = random.Random(options.seed)
        for life in sending.lives("s3://bucket/run", Path(here), options.trials, chance, options.megabytes):
            told["lives"] += 1
            told["on another machine"] += life.moved
            told["steps sent"] = life.after
            told["in a write or on the way"] += bool(life.parts)
            told["unsound"] += len(life.unsound)
            told["went back"] += life.after < life.before
            told["killed before it trained"] += life.resumed is None
            told["not gone on from the newest"] += life.resumed not in (None, life.newest)
    server.stop()
    _print(told)


def _print(told: Counter[str]) -> None:
    print("| " + " | ".join(told) + " |\n|" + "---|" * len(told))
    print("| " + " | ".join(map(str, told.values())) + " |", flush=True)


def cost(options: argparse.Namespace) -> None:
    for form in options.form:
        sizes = {}
        for megabytes in options.megabytes:
            rounds = max(5, round(options.rounds * min(1, 64 / megabytes)))  # a large one takes seconds
            sizes[megabytes] = checkpoint_cost.measure(form, megabytes, rounds, options.folder, options.variants)
        checkpoint_cost.in_short(form, sizes)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["kills", "shards", "store", "cost"])
    parser.add_argument("--trials", type=int, default=75, help="kills a row; four rows are NestedCheckpoint's")
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--megabytes", type=float, nargs="+", help="of a checkpoint; cost takes several")
    parser.add_argument("--folder", help="where to save; the folder for temporary files if not given")
    parser.add_argument("--only", help="part of the name of the rows to kill")
    parser.add_argument("--form", nargs="+", default=["files", "shards"], choices=list(checkpoint_cost.FORMS))
    parser.add_argument("--ranks", type=int, default=2, choices=[2, 4], help="shards: processes of the job")
    parser.add_argument("--beside", action="store_true", help="shards: with async_save=True")
    parser.add_argument("--variants", nargs="+", help="cost: only those whose names hold one of these, and the stock")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    sizes = options.megabytes or {"kills": [16], "shards": [0], "store": [4], "cost": [1, 16, 64, 512]}[options.what]
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    if options.what == "cost":
        options.megabytes = sizes
        cost(options)
        return
    for options.megabytes in sizes:
        {"kills": kills, "shards": shards, "store": store}[options.what](options)


if __name__ == "__main__":
    main()
