"""Fits on several ranks that save in shards, and lives of them that are ended by SIGKILL."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from checkpointing.killing import until
from checkpointing.newest import newest_good
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset
from two_ranks import as_rank, count_of, strategy

from lightning_debugkit import NestedCheckpoint
from lightning_debugkit.checkpointing.records import read_records
from lightning_debugkit.checkpointing.repair import candidates
from lightning_debugkit.checkpointing.verification import damage
from lightning_debugkit.checkpoints import KeepRule, Latest


class Shared(pl.LightningModule):
    """Two layers in shards; ``count`` is a buffer that has the step it was saved at."""

    def __init__(self, kind: str = "fsdp2", wide: int = 9) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.kind = kind
        self.net = nn.Sequential(nn.Linear(4, wide), nn.Linear(wide, 2))
        self.seen: list[int] = []

    def configure_model(self) -> None:
        if self.kind == "fsdp" or any(hasattr(p, "to_local") for p in self.parameters()):
            return
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard
        from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

        if self.kind == "tensor":
            plan = {"0": ColwiseParallel(), "1": RowwiseParallel()}
            parallelize_module(self.net, self.device_mesh["tensor_parallel"], plan)
        if self.kind in ("fsdp2", "hybrid") or self.device_mesh["data_parallel"].size() > 1:
            mesh = self.device_mesh["data_parallel"]
            if self.kind == "hybrid":
                mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("replicas", "shards"))
            for layer in (*self.net, self.net):
                fully_shard(layer, mesh=mesh)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return self.net(batch[0]).square().mean()

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_loss", self.net(batch[0]).square().mean(), sync_dist=True)

    def configure_optimizers(self) -> Any:
        return torch.optim.AdamW(self.parameters(), lr=0.01)


def whole(module: pl.LightningModule) -> list[Tensor]:
    """The weights of FSDP2, brought together."""
    held: list[Any] = list(module.parameters())
    return [(each.full_tensor() if hasattr(each, "full_tensor") else each).detach().clone() for each in held]


def gathered(trainer: pl.Trainer, module: pl.LightningModule) -> list[Tensor]:
    """The weights of FSDP or FSDP2, brought together; every rank must call this, within a fit."""
    from torch.distributed.fsdp import FullyShardedDataParallel

    model = trainer.strategy.model
    if not isinstance(model, FullyShardedDataParallel):
        return whole(module)
    with FullyShardedDataParallel.summon_full_params(model, writeback=False):
        return whole(module)


def fit(
    folder: Path,
    kind: str = "fsdp2",
    rules: Sequence[KeepRule] = (Latest(n=2),),
    *callbacks: pl.Callback,
    module: pl.LightningModule | None = None,
    keeps: dict[str, Any] | None = None,
    ckpt_path: Any = None,
    **options: Any,
) -> tuple[pl.Trainer, pl.LightningModule]:
    """Fit two batches an epoch on each of two ranks."""
    pl.seed_everything(3, verbose=False)
    if module is None:
        named = {"tensor": "tensor", "both": "tensor", "fsdp": "fsdp", "fsdp-hybrid": "fsdp", "hybrid": "hybrid"}
        cut = named.get(kind.split()[0], "fsdp2")
        # One row cannot be dealt out: a rank has nothing of it.
        module = Shared(cut, wide={"tensor": 8, "both": 8, "fsdp-hybrid": 1}.get(kind, 9))
    saves = NestedCheckpoint(**{"dirpath": folder / "checkpoints", "rules": list(rules), **(keeps or {})})
    trainer = pl.Trainer(
        accelerator="cpu", devices=count_of(kind), strategy=strategy(kind), default_root_dir=folder, logger=False,
        enable_progress_bar=False, enable_model_summary=False, callbacks=[*callbacks, saves],
        **{"max_epochs": 3, **options},
    )  # fmt: skip
    data = TensorDataset(torch.randn(16, 4))
    trainer.fit(module, DataLoader(data, 4), DataLoader(data, 4), ckpt_path=ckpt_path)
    return trainer, module


@dataclass(frozen=True)
class Life:
    """What a job did until it was killed.

    Args:
        killed: The ranks that were killed first; the rest had a moment more.
        resumed: The step it went on from; None if it did not get that far.
        before: The newest step that was committed before it.
        after: The newest step that is committed now.
        unsound: What has a record and is damaged.
        drafts: Names of unfinished folders.
    """

    killed: tuple[int, ...]
    resumed: int | None
    before: int
    after: int
    unsound: dict[str, str]
    drafts: list[str]


class Tells(pl.Callback):
    def __init__(self, wire: int) -> None:
        self.wire = wire

    def on_train_start(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.is_global_zero:
            os.write(self.wire, f"{trainer.global_step}\n".encode())


def _live(rank: int, count: int, port: int, folder: Path, wire: int, beside: bool) -> None:
    sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: PTH123, SIM115 (of the child alone, to its end)
    as_rank(rank, count, port)
    options: dict[str, Any] = {"keeps": {"async_save": beside}, "ckpt_path": "last", "max_epochs": -1}
    kind = {2: "fsdp2", 4: "four"}[count]
    fit(folder, kind, (Latest(n=2, every_n_steps=1),), Tells(wire), module=Shared(wide=9001), **options)


def lives(folder: Path, count: int, chance: random.Random, ranks: int = 2, *, beside: bool = False) -> Iterator[Life]:
    """Let a job save in each step; kill one of its ranks or all, at any moment, and begin the next.

    Args:
        folder: Of the job.
        count: How many lives.
        chance: When, and who.
        ranks: Two or four.
        beside: Whether they save beside the training.
    """
    saved = folder / "checkpoints"
    context = multiprocessing.get_context("fork")
    for _ in range(count):
        # Of those whose record lies in the folder only, since the kill fell between the two commits, too.
        sound = [record.step for record in candidates(saved) if not damage(saved / record.name, record)]
        before = max(sound, default=0)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        ends, wire = os.pipe()
        job = [
            context.Process(target=_live, args=(rank, ranks, port, folder, wire, beside), daemon=True)
            for rank in range(ranks)
        ]
        try:
            for process in job:
                process.start()
            os.close(wire)
            os.set_blocking(ends, False)
            resumed = _read(ends, patience=60)
            if not before or chance.random() < 0.5:
                # In a write, or after one: however slow the machine is, the first life leaves something to go on from.
                known = _names(saved)
                until(partial(_is_further, saved, known, before), 60)
            time.sleep(chance.uniform(0, 1.0))
            first = chance.choice([tuple(range(ranks))] * 2 + [(0,), (ranks - 1,)])
            for rank in first:
                job[rank].kill()
            if len(first) == 1:
                time.sleep(chance.uniform(0, 0.5))
        finally:
            for process in job:
                process.kill()
                process.join(10)
            os.close(ends)
        records = read_records(saved)
        unsound = {each.name: why for each in records if (why := damage(saved / each.name, each))}
        drafts = [path.name for path in saved.glob(".*.tmp")]
        after = max((record.step for record in records), default=0)
        yield Life(first, resumed, before, after, unsound, drafts)


def _is_further(folder: Path, known: set[str], before: int) -> bool:
    return _names(folder) != known and bool(before or read_records(folder))


def _names(folder: Path) -> set[str]:
    return {path.name for path in folder.glob("*")} if folder.is_dir() else set()


def _read(ends: int, patience: float) -> int | None:
    until = time.monotonic() + patience
    while time.monotonic() < until:
        try:
            told = os.read(ends, 100)
        except BlockingIOError:
            time.sleep(0.01)
            continue
        return int(told.split()[0]) if told else None
    return None


def newest_step(folder: Path) -> int:
    found = newest_good(folder / "checkpoints", lambda *_: None)
    return 0 if found is None else found.step


def rewrite(record: Path, **fields: Any) -> None:
    """Change fields of a record on the disk, as one would who wants to deceive."""
    record.write_text(json.dumps({**json.loads(record.read_text()), **fields}))
