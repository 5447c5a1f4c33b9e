"""Small folders of checkpoints, as a fit would leave them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from lightning_debugkit.checkpointing.records import read_records
from lightning_debugkit.checkpointing.repair import MANIFEST
from lightning_debugkit.checkpointing.store import Store
from lightning_debugkit.checkpointing.verification import damage
from lightning_debugkit.checkpoints import KeepRule, Latest, Moment, Record

RUN = "0123abcd"


def draft(step: int, loss: float = 1.0, run: str = RUN) -> Record:
    return Record(f"step-{step:08d}-{run}.ckpt", Moment(step), metrics={"loss": loss}, time=float(step), run=run)


def writer(record: Record, size: int = 1000) -> Callable[[Path], None]:
    checkpoint = {"state_dict": {"w": torch.full((size,), float(record.step))}, "hyper_parameters": {"path": Path("x")}}
    return lambda path: torch.save({**checkpoint, MANIFEST: {"checkpoint": record.to_plain()}}, path)


def opened(folder: Path, rules: Sequence[KeepRule] = (Latest(),), **options: Any) -> Store:
    store = Store(folder, rules, RUN, **options)
    store.read()
    return store


def save(store: Store, step: int, loss: float = 1.0) -> Record:
    record = draft(step, loss)
    return store.save(record, writer(record)).record


def steps(folder: Path) -> list[int]:
    """The steps of the committed files, each of which must be whole."""
    records = read_records(folder)
    assert {record.name: damage(folder / record.name, record) for record in records if record.name} == {
        record.name: "" for record in records
    }
    return [record.step for record in records]


def hidden(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name.startswith("."))


def flip(path: Path, at: float) -> None:
    data = bytearray(path.read_bytes())
    data[int(at * len(data))] ^= 16
    path.write_bytes(data)
