"""Saves of several ways, each in processes of its own that make one epoch in turn: ``checkpoints.py cost`` prints it.

An epoch is a step, a validation and a save. Of each are told the time that the training waits (*stall*), the time until
the checkpoint is down (*down*: what is written or sent beside the training included, by whoever does it), and the
processor time of all processes and threads up to then. What an epoch takes without a save is taken off.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import shutil
import socket
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import lightning.pytorch as pl
import torch
from checkpointing.marked import Marked, batches
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.plugins.io import AsyncCheckpointIO
from torch import Tensor, nn
from two_ranks import as_rank, strategy

from lightning_debugkit import NestedCheckpoint

WARM_UP = 3
MEASURED = ("stall", "down", "processor")


@dataclass(frozen=True)
class Variant:
    """One way to save.

    Args:
        callback: Made from the folder for checkpoints; none for epochs without a save.
        options: More arguments of the Trainer.
        ranks: Processes; of two, each writes its shards.
    """

    callback: Callable[[Path], pl.Callback] | None
    options: Callable[[], dict[str, Any]] = dict
    ranks: int = 1


class Falling(Marked):
    """Gets better in each epoch, so that each is among the best; its weights are in a hundred tensors."""

    def __init__(self, megabytes: float) -> None:
        super().__init__()
        for index in range(100):
            self.register_buffer(f"part_{index}", torch.randn(int(megabytes * 2_500)))

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("score", torch.tensor(-float(self.global_step)))


class Shared(pl.LightningModule):
    """As `Falling`, of FSDP2: each of two ranks holds half of each tensor."""

    def __init__(self, megabytes: float) -> None:
        super().__init__()
        self.net = nn.Linear(2, 1)
        self.parts = nn.ParameterList(torch.randn(100, int(megabytes * 2_500)).unbind())

    def configure_model(self) -> None:
        from torch.distributed.fsdp import fully_shard

        for part in (self.net, self.parts):
            fully_shard(part, mesh=self.device_mesh["data_parallel"])

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return self.net(batch[0]).square().mean()

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("score", torch.tensor(-float(self.global_step)))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.net.parameters(), lr=0.01)


class PlainDcp(pl.Callback):
    """``torch.distributed.checkpoint`` by hand: the weights, at the end of each epoch, the newest two."""

    def __init__(self, folder: Path, *, beside: bool = False) -> None:
        self.folder, self.beside = folder, beside
        self.under_way: Any = None

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        from torch.distributed.checkpoint import async_save, save

        self.wait()
        state, place = pl_module.state_dict(), self.folder / f"{trainer.global_step}"
        if self.beside:
            self.under_way = async_save(state, checkpoint_id=place)
        else:
            save(state, checkpoint_id=place)
        if trainer.is_global_zero:
            shutil.rmtree(self.folder / f"{trainer.global_step - 2}", ignore_errors=True)

    def wait(self) -> None:
        if self.under_way is not None:
            self.under_way.result()


def _stock(folder: Path, **options: Any) -> ModelCheckpoint:
    return ModelCheckpoint(folder, monitor="score", save_top_k=2, **options)


def _nested(folder: Path | str, **options: Any) -> ModelCheckpoint:
    return NestedCheckpoint(folder, monitor="score", top_k=2, **options)


NOTHING, STOCK, TWICE, NESTED = "nothing", "ModelCheckpoint", "ModelCheckpoint(save_last=True)", "NestedCheckpoint"
FILES = {
    NOTHING: Variant(None),
    STOCK: Variant(_stock),
    "ModelCheckpoint, again": Variant(_stock),
    TWICE: Variant(partial(_stock, save_last=True)),
    "AsyncCheckpointIO": Variant(_stock, lambda: {"plugins": [AsyncCheckpointIO()]}),
    NESTED: Variant(_nested),
    "NestedCheckpoint(fsync=False)": Variant(partial(_nested, fsync=False)),
    "NestedCheckpoint(async_save=True)": Variant(partial(_nested, async_save=True)),
    "NestedCheckpoint, object store": Variant(lambda folder: _nested(f"memory://{folder.parent.name}")),
}
SHARDS = {
    NOTHING: Variant(None, ranks=2),
    STOCK: Variant(_stock, ranks=2),
    "ModelCheckpoint, again": Variant(_stock, ranks=2),
    TWICE: Variant(partial(_stock, save_last=True), ranks=2),
    "plain DCP": Variant(PlainDcp, ranks=2),
    "plain DCP, async_save": Variant(partial(PlainDcp, beside=True), ranks=2),
    NESTED: Variant(_nested, ranks=2),
    "NestedCheckpoint(fsync=False)": Variant(partial(_nested, fsync=False), ranks=2),
    "NestedCheckpoint(async_save=True)": Variant(partial(_nested, async_save=True), ranks=2),
}
FORMS = {"files": FILES, "shards": SHARDS}


def _wait_until_down(trainer: pl.Trainer) -> None:
    """Wait for what is still being written, sent or deleted beside the training, whoever does it."""
    io = trainer.strategy.checkpoint_io
    if isinstance(io, AsyncCheckpointIO) and io._executor is not None:
        io._executor.submit(int).result()
    for callback in trainer.callbacks:
        if isinstance(callback, PlainDcp):
            callback.wait()
        session = getattr(callback, "_session", None)
        if session is not None:
            session._shards.wait()
        if session is not None and session.keeper is not None:
            session.keeper.wait()
            for mirror in session.keeper.mirrors:
                while mirror._has_work():
                    time.sleep(0.0005)


class Turns(pl.Callback):
    """Makes an epoch when it is told to, and tells what it took."""

    def __init__(self, wire: Connection) -> None:
        self.wire = wire
        self.fsync = 0.0
        self._began: tuple[float, float] | None = None
        real = os.fsync

        def timed(handle: int) -> None:
            began = time.perf_counter()
            real(handle)
            self.fsync += time.perf_counter() - began

        os.fsync = timed  # of this process alone

    def on_train_epoch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        if self._began is not None:
            stall = time.perf_counter() - self._began[0]
            _wait_until_down(trainer)
            down = time.perf_counter() - self._began[0]
            self.wire.send((stall, down, time.process_time() - self._began[1], self.fsync))
        self.wire.recv()
        self.fsync = 0.0
        self._began = (time.perf_counter(), time.process_time())


def _fit(variant: Variant, megabytes: float, rank: int, port: int, folder: Path, wire: Connection) -> None:
    torch.set_num_threads(1)
    tempfile.tempdir = str(folder.parent)  # the best case of Lightning: its temporary files on the disk of the others
    options = variant.options()
    if variant.ranks > 1:
        as_rank(rank, variant.ranks, port)
        options["strategy"] = strategy("fsdp2")
    saves = [] if variant.callback is None else [variant.callback(folder)]
    trainer = pl.Trainer(
        max_epochs=-1,
        accelerator="cpu",
        devices=variant.ranks,
        logger=False,
        enable_checkpointing=any(isinstance(each, ModelCheckpoint) for each in saves),
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        default_root_dir=folder.parent,
        callbacks=[Turns(wire), *saves],
        **options,
    )
    module = Falling(megabytes) if variant.ranks == 1 else Shared(megabytes)
    trainer.fit(module, batches(variant.ranks), batches(variant.ranks))


class Job:
    """The processes of one variant."""

    def __init__(self, variant: Variant, megabytes: float, folder: Path) -> None:
        context = multiprocessing.get_context("fork")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        folder.parent.mkdir()
        pipes = [context.Pipe() for _ in range(variant.ranks)]
        self.wires = [mine for mine, _ in pipes]
        self.processes = [
            context.Process(target=_fit, args=(variant, megabytes, rank, port, folder, theirs), daemon=True)
            for rank, (_, theirs) in enumerate(pipes)
        ]
        for process in self.processes:
            process.start()
        for _, theirs in pipes:
            theirs.close()

    def turn(self) -> tuple[float, float, float, float]:
        """Make an epoch; return seconds of stall, until it is down, of the processors, and in fsync."""
        for wire in self.wires:
            wire.send(None)
        told = list(zip(*(wire.recv() for wire in self.wires), strict=True))
        return max(told[0]), max(told[1]), sum(told[2]), max(told[3])

    def close(self) -> None:
        for process in self.processes:
            process.kill()
            process.join()


@contextmanager
def _jobs(variants: dict[str, Variant], megabytes: float, folder: str | None) -> Iterator[dict[str, Job]]:
    jobs: dict[str, Job] = {}
    with tempfile.TemporaryDirectory(dir=folder, ignore_cleanup_errors=True) as here:
        try:
            for index, (name, variant) in enumerate(variants.items()):
                jobs[name] = Job(variant, megabytes, Path(here) / str(index) / "checkpoints")
            yield jobs
        finally:
            for job in jobs.values():
                job.close()


def in_turn(
    variants: dict[str, Variant], megabytes: float, rounds: int, folder: str | None = None
) -> dict[str, list[tuple[float, float, float, float]]]:
    """Return what each epoch of each variant took, as `Job.turn` has it."""
    with _jobs(variants, megabytes, folder) as jobs:
        turns: dict[str, list[tuple[float, float, float, float]]] = {name: [] for name in jobs}
        for turn in range(rounds + WARM_UP):
            for name in random.sample(list(jobs), len(jobs)):
                told = jobs[name].turn()
                if turn >= WARM_UP:
                    turns[name].append(told)
    return turns


def beside_stock(megabytes: float, rounds: int) -> dict[str, tuple[float, float, float]]:
    """Return what a stock save takes, what one of `NestedCheckpoint` does, and the median of their ratios.

    Seconds, for each of `MEASURED`.
    """
    turns = in_turn({name: FILES[name] for name in (NOTHING, STOCK, NESTED)}, megabytes, rounds)
    found = {}
    for column, measured in enumerate(MEASURED):
        bare, stock, nested = ([told[column] for told in turns[name]] for name in (NOTHING, STOCK, NESTED))
        without = median(bare)
        found[measured] = median(stock) - without, median(nested) - without, median(_ratios(nested, stock, without))
    return found


Cells = dict[str, str]


def measure(form: str, megabytes: float, rounds: int, folder: str | None, only: Sequence[str] | None) -> Cells:
    """Print the tables of one form and size, and return of each variant stall and time until it is down, in short.

    ``only`` has parts of the names of the variants that are wanted.
    """
    always = (NOTHING, STOCK, TWICE, NESTED)
    variants = {
        name: variant
        for name, variant in FORMS[form].items()
        if not only or name in always or any(part in name for part in only)
    }
    turns = in_turn(variants, megabytes, rounds, folder)
    for column, measured in enumerate(MEASURED):
        _table(form, megabytes, measured, {name: [told[column] for told in made] for name, made in turns.items()})
    per_save = median(told[3] for told in turns[NESTED]) * 1e3
    print(f"\nfsync by itself: {per_save:.1f} ms a save", flush=True)
    return {name: _in_short(made, turns) for name, made in turns.items() if name != NOTHING}


Times = list[tuple[float, float, float, float]]


def _in_short(made: Times, turns: dict[str, Times]) -> str:
    """Return the medians of stall and time until it is down, in ms, and of the stall's ratios to two stock ones."""
    stall, down = (median(told[at] for told in made) - median(told[at] for told in turns[NOTHING]) for at in (0, 1))
    bare = median(told[0] for told in turns[NOTHING])
    stalls = [told[0] for told in made]
    ratios = (median(_ratios(stalls, [told[0] for told in turns[other]], bare)) for other in (STOCK, TWICE))
    return f"{stall * 1e3:.1f} / {down * 1e3:.1f} ({', '.join(f'{ratio:.2f}' for ratio in ratios)})"


def in_short(form: str, sizes: dict[float, Cells]) -> None:
    """Print what all sizes of a form cost in one table."""
    print(f"\n{form}: ms that the training waits / until it is down (the wait, of {STOCK} and of {TWICE})")
    print(f"| | {' | '.join(f'{size:g} MB' for size in sizes)} |\n|{'---|' * (len(sizes) + 1)}")
    for name in dict.fromkeys(name for cells in sizes.values() for name in cells):
        print(f"| {name} | {' | '.join(cells.get(name, '') for cells in sizes.values())} |", flush=True)


def _table(form: str, megabytes: float, measured: str, times: dict[str, list[float]]) -> None:
    bare = median(times.pop(NOTHING))
    rounds = len(next(iter(times.values())))
    print(f"\n{form}, {megabytes:g} MB, {rounds} rounds, {measured}; an epoch without a save: {bare * 1e3:.1f} ms")
    print(f"| {'':33} | ms a save | of {STOCK} | quartiles | of {TWICE} | quartiles |\n|{'---|' * 6}")
    for name, found in times.items():
        cells = [f"{(median(found) - bare) * 1e3:.1f}"]
        for other in (STOCK, TWICE):
            low, middle, high = quantiles(_ratios(found, times[other], bare), n=4)
            cells += [f"{middle:.3f}", f"{low:.3f} - {high:.3f}"]
        print(f"| {name:33} | {' | '.join(cells)} |", flush=True)


def _ratios(mine: Sequence[float], theirs: Sequence[float], bare: float) -> list[float]:
    """Of each round, what a save takes to what another takes."""
    return [(one - bare) / (other - bare) for one, other in zip(mine, theirs, strict=True)]
