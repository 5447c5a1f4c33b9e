"""What is known of a checkpoint without opening it: one small record beside each file."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

VERSION = 1
SUFFIX = ".json"
DAMAGED = ".damaged"
FOLDER_RECORD = "debugkit-record.json"  # the record once more, in the folder of shards itself
Lineage = tuple[tuple[str, int], ...]
Shards = Mapping[str, tuple[int, str]]  # by file name: bytes and CRC-32


@dataclass(frozen=True)
class Moment:
    """How far a training has come.

    Args:
        step: Optimizer steps taken: Lightning's ``global_step``, and those that it does not count.
        epochs: Epochs that were completed.
        seconds: Time spent in training, that of the runs it was resumed from included.
    """

    step: int
    epochs: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class Record:
    """One checkpoint file: where the training stood, what it scored, and by what its bytes are known again.

    Args:
        moment: How far the training had come.
        epoch: Epoch of the last step, counted from 0.
        metrics: Values that belong to these very weights; numbers that are not finite never rank.
        time: Seconds since 1970 when it was made.
        digest: CRC-32 of the file's directory, which holds the CRC-32s of its parts; empty if it has none.
        run: The fit that made it.
        lineage: The fits that one was resumed from, each with the step at which it was left, the oldest first.
        rules: The rules in force, as text.
        weights_only: Whether a training cannot be resumed from it.
        shards: Of a folder that every rank wrote a part of: size and CRC-32 of each file.
    """

    name: str
    moment: Moment
    epoch: int = 0
    metrics: Mapping[str, float] = field(default_factory=dict)
    time: float = 0.0
    size: int = 0
    digest: str = ""
    run: str = ""
    lineage: Lineage = ()
    rules: tuple[str, ...] = ()
    weights_only: bool = False
    shards: Shards = field(default_factory=dict)

    @property
    def step(self) -> int:
        return self.moment.step

    def sealed(self, size: int, digest: str, shards: Shards | None = None) -> Record:
        """Return the record of the file as it was written."""
        return replace(self, size=size, digest=digest, shards=dict(shards or {}))

    def to_plain(self) -> dict[str, Any]:
        """Return the record as strings, numbers, lists and dicts, which ``torch.load(weights_only=True)`` takes."""
        return {
            "v": VERSION,
            "name": self.name,
            "step": self.moment.step,
            "epochs": self.moment.epochs,
            "seconds": self.moment.seconds,
            "epoch": self.epoch,
            "metrics": dict(self.metrics),
            "time": self.time,
            "size": self.size,
            "digest": self.digest,
            "run": self.run,
            "lineage": [list(part) for part in self.lineage],
            "rules": list(self.rules),
            "weights_only": self.weights_only,
            "shards": {name: list(shard) for name, shard in self.shards.items()},
        }

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Record:
        """Return the record that ``to_plain`` wrote; fields of newer versions are passed over.

        Raises:
            ValueError: A field is missing or of another type.
        """
        try:
            return cls(
                name=str(plain["name"]),
                moment=Moment(int(plain["step"]), int(plain["epochs"]), float(plain["seconds"])),
                epoch=int(plain["epoch"]),
                metrics={str(name): float(value) for name, value in plain["metrics"].items()},
                time=float(plain["time"]),
                size=int(plain["size"]),
                digest=str(plain["digest"]),
                run=str(plain["run"]),
                lineage=tuple((str(run), int(step)) for run, step in plain["lineage"]),
                rules=tuple(str(rule) for rule in plain["rules"]),
                weights_only=bool(plain["weights_only"]),
                shards={str(name): (int(size), str(crc)) for name, (size, crc) in plain.get("shards", {}).items()},
            )
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise ValueError(f"Record needs the fields of a checkpoint's record, got {plain!r}.") from error

    def to_json(self) -> str:
        """Return the record as one line of strict JSON; numbers that are not finite are words."""
        plain = self.to_plain()
        plain["metrics"] = {name: value if math.isfinite(value) else str(value) for name, value in self.metrics.items()}
        return json.dumps(plain, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Record:
        """Return the record of ``to_json``; raise ``ValueError`` if it is none."""
        plain = json.loads(text)
        if not isinstance(plain, dict):
            raise ValueError(f"Record needs a JSON object, got {text[:60]!r}.")
        return cls.from_plain(plain)


def in_order(records: Iterable[Record]) -> list[Record]:
    """Return the records as the training made them."""
    return sorted(records, key=lambda record: (record.moment.step, record.time, record.name))


def history(records: Iterable[Record], run: str, lineage: Sequence[tuple[str, int]] = ()) -> list[Record]:
    """Return the records on the way to ``run``: its own, and those of each fit before it up to where it was left.

    >>> made = [Record(f"{run}{step}", Moment(step), run=run) for run, step in [("a", 1), ("a", 2), ("b", 3)]]
    >>> [record.name for record in history(made, "b", [("a", 1)])]
    ['a1', 'b3']
    """
    until = {**dict(lineage), run: math.inf}
    return in_order(record for record in records if record.step <= until.get(record.run, -1))


def head(records: Sequence[Record]) -> Record | None:
    """Return the end of the history that is in progress.

    A fit that another one was resumed from is not in progress, whatever the clocks of their machines said; only between
    fits that know nothing of each other does the time decide.
    """
    left = {run for record in records for run, _ in record.lineage}
    ends = [record for record in records if record.run not in left]
    newest = max(ends, key=lambda record: (record.time, record.name), default=None)
    if newest is None:
        return None
    return max((record for record in records if record.run == newest.run), key=lambda record: record.step)


def read_records(folder: Path) -> list[Record]:
    """Return the records in ``folder``, in the order of training; JSON files that are none of ours are passed over."""
    found = []
    for path in folder.glob(f"*.ckpt{SUFFIX}"):
        with contextlib.suppress(OSError, ValueError):
            record = Record.from_json(path.read_text(encoding="utf-8"))
            if record.name + SUFFIX == path.name:
                found.append(record)
    return in_order(found)
