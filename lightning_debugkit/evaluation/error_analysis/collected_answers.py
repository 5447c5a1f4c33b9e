"""What one pass over validation or test data leaves: counts that stream, and a short record of each sample."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lightning_debugkit.evaluation.error_analysis.batch_scores import BatchScores
from lightning_debugkit.evaluation.error_analysis.detection import NOTHING, settled_detection
from lightning_debugkit.evaluation.error_analysis.index_evidence import IndexEvidence
from lightning_debugkit.evaluation.error_analysis.multiclass import score_multiclass
from lightning_debugkit.evaluation.error_analysis.scoring import score_batch
from lightning_debugkit.evaluation.error_analysis.slice_columns import Column, Columns, decoded
from lightning_debugkit.evaluation.error_analysis.task import Task
from lightning_debugkit.evaluation.predictions.readings import Reading
from lightning_debugkit.stats.calibration import Calibration
from lightning_debugkit.stats.confusion import Confusion
from lightning_debugkit.stats.row_buffer import Block, RowBuffer
from lightning_debugkit.stats.sample_records import Records
from lightning_debugkit.stats.top_losses import TopLosses

TOP = 25
_DTYPES = {
    "index": torch.int64,
    "target": torch.int32,
    "predicted": torch.int32,
    "wrong": torch.int32,
    "size": torch.int32,
    "loss": torch.float32,
    "confidence": torch.float32,
    "given": torch.float32,
    "broken": torch.bool,
    "outside": torch.int32,
}
_STAGED = 1 << 14
_NARROW = 64  # classes up to which scores wait as they are
Table = dict[str, NDArray[Any]]


class AnswerCollector:
    """Take up batches of one pass; give all that was seen, to be merged with that of other ranks.

    A batch is copied to where it waits with others on their device; the host is asked once for many of them.

    Args:
        columns: Names of what else is known of a sample.
        most: Samples that are remembered one by one.
    """

    def __init__(self, form: Task, columns: Sequence[str], most: int) -> None:
        self.form = form
        self.most = most
        self.columns = Columns(columns)
        self.confusion = Confusion(max(form.classes + (form.task == "multilabel"), 1))
        self.calibration = Calibration()
        self.top = TopLosses(TOP)
        self.totals = Totals()
        self.records = Records() if form.task in ("multiclass", "binary") else None
        self._buffer: RowBuffer | None = None
        self._waiting: RowBuffer | None = None
        self._ignore: int | None = None
        self._blocks: list[tuple[NDArray[Any], ...]] = []
        self._seen = 0

    def add(self, found: Reading, index: Tensor | None, columns: Mapping[str, Column]) -> None:
        """Take up a batch whose repeated rows are gone.

        Args:
            index: Dataset index of each sample, ``None`` if unknown.
            columns: What else is known of each sample.
        """
        n = len(found.predictions)
        device = found.predictions.device if isinstance(found.predictions, Tensor) else torch.device("cpu")
        place = torch.full((n,), -1) if index is None else index
        index, numbers = place.to(device, non_blocking=True), self.columns.numbers(columns, n, device)
        if not self._may_wait:
            self._add(score_batch(self.form, found), index, numbers)
            return
        # Many small batches cost more in calls than in numbers: they wait until they are one large batch.
        dtypes = (found.predictions.dtype, torch.int64, torch.int64, numbers.dtype)
        if self._waiting is None or self._waiting.dtypes != dtypes:
            self._settle()
            self._waiting = RowBuffer(dtypes, _STAGED)
        self._ignore = found.ignore_index
        target = found.target.to(device)
        self._look_at(self._waiting.add(found.predictions, target, index, numbers))

    @property
    def _may_wait(self) -> bool:
        form = self.form
        return self.records is not None and form.classes <= _NARROW and not form.soft and form.scores != "classes"

    def reread(self, form: Task) -> None:
        """Read what comes from now on in another way."""
        self._settle()
        self.form = form

    def _settle(self) -> None:
        if self._waiting is not None:
            self._look_at(self._waiting.rest())

    def _look_at(self, blocks: Iterable[Block]) -> None:
        for predictions, target, index, numbers in blocks:
            self._add(score_multiclass(self.form, predictions, target, self._ignore), index, numbers)

    def _add(self, look: BatchScores, index: Tensor, numbers: Tensor) -> None:
        if look.pairs is not None:
            self.confusion.update(*look.pairs)
        if look.answers is not None:
            self.calibration.update(*look.answers)
        room = self.most - self._seen
        if self.records is not None and look.seen is not None and room > 0:
            self.records.add(look.seen.first(room), look.target[:room], index[:room])
        self._seen += len(index)
        own = {name: getattr(look, name) for name in _DTYPES if name != "index"}
        if self._buffer is None:
            self._buffer = RowBuffer([*_DTYPES.values(), numbers.dtype], _STAGED)
        for block in self._buffer.add(index, *own.values(), numbers):
            self._take(block)

    def _take(self, block: Block) -> None:
        """Count a block of samples on the host."""
        host = [part.cpu() for part in block]
        held = dict(zip(_DTYPES, host, strict=False))
        counts = held["size"] > 0
        summed = (int(held[name].sum()) for name in ("size", "wrong", "broken", "outside"))
        self.totals.add(Totals(int(counts.sum()), *summed))
        kept = [part[counts] for part in host]
        held = dict(zip(_DTYPES, kept, strict=False))
        target, predicted, right = held["target"], held["predicted"], held["wrong"] == 0
        if self.form.task in ("multiclass", "binary"):
            self.confusion.update(target.long(), predicted.long())
            self.calibration.update(held["confidence"], right)
        self.top.update(held["loss"], target.long(), predicted.long(), held["index"], held["given"], held["confidence"])
        room = self.most - sum(len(rows[0]) for rows in self._blocks)
        if room > 0:
            self._blocks.append(tuple(part[:room].numpy().copy() for part in kept))

    def payload(self) -> dict[str, Any]:
        """Return all that was counted."""
        self._settle()
        for block in () if self._buffer is None else self._buffer.rest():
            self._take(block)
        empty = [torch.zeros(0, dtype=dtype).numpy() for dtype in _DTYPES.values()]
        blocks = self._blocks or [(*empty, np.zeros((0, len(self.columns.names)), np.float32))]
        # Column by column, so that a million samples are not held twice.
        parts = [list(part) for part in zip(*blocks, strict=True)]
        self._blocks = []
        del blocks
        columns = []
        for part in parts:
            columns.append(np.concatenate(part))
            part.clear()
        return {
            "form": self.form,
            "confusion": self.confusion.state(),
            "calibration": self.calibration.state(),
            "top": self.top.state(),
            "records": None if self.records is None else self.records.state(),
            "totals": self.totals,
            "names": self.columns.names,
            "codes": self.columns.codes,
            "table": columns,
        }


@dataclass
class CollectedAnswers:
    """What all ranks saw together."""

    form: Task
    confusion: Confusion  # counts of target and prediction
    calibration: Calibration  # how often answers of each confidence are right
    top: TopLosses
    records: Records | None  # probabilities of each sample in short, `None` where a sample has many answers
    totals: Totals
    table: Table = field(default_factory=dict)  # a row for each remembered sample, by dataset index
    columns: Table = field(default_factory=dict)  # what else is known of these
    none: int | None = None  # class that stands for nothing, no label or background; `None` where there is no such
    evidence: IndexEvidence = field(default_factory=IndexEvidence)  # what names of samples hang on

    @property
    def named(self) -> int:
        """Classes that have a name: one that stands for nothing beyond them has none."""
        classes = max(self.confusion.classes, self.form.classes)
        return classes - (self.none is not None and 0 < self.none == classes - 1)

    def nameless(self) -> CollectedAnswers:
        """Return the same without indices of samples."""
        table = {**self.table, "index": np.full_like(self.table["index"], -1)}
        return replace(self, table=table, top=self.top.nameless(), records=self.records and self.records.nameless())


def merged_answers(payloads: Sequence[dict[str, Any] | None]) -> CollectedAnswers | None:
    """Return what ranks saw together, ``None`` if none saw anything."""
    given = [payload for payload in payloads if payload is not None]
    if not given:
        return None
    held = [payload for payload in given if payload["totals"].samples] or given[:1]
    first, *others = held
    totals = Totals()
    for payload in given:  # a rank whose scores are all broken counts as well
        totals.add(payload["totals"])
    found = CollectedAnswers(
        first["form"],
        Confusion.of(first["confusion"]),
        Calibration.of(first["calibration"]),
        TopLosses.of(first["top"]),
        None if first["records"] is None else Records.of(first["records"]),
        totals,
    )
    for other in others:
        found.confusion.merge(Confusion.of(other["confusion"]))
        found.calibration.merge(Calibration.of(other["calibration"]))
        found.top.merge(TopLosses.of(other["top"]))
        if found.records is not None and other["records"] is not None:
            found.records.merge(Records.of(other["records"]))
    tables = [payload["table"] for payload in held]
    columns = decoded(
        [payload["names"] for payload in held], [payload["codes"] for payload in held], [table[-1] for table in tables]
    )
    rows = [_joined([table[at] for table in tables]) for at in range(len(_DTYPES))]
    found.table, found.columns = dict(zip(_DTYPES, rows, strict=True)), columns
    if (np.diff(rows[0]) < 0).any():
        # Ranks take turns with the samples: in the order of the data the result does not tell how many there were.
        order = np.argsort(rows[0], kind="stable")
        for held_columns in (found.table, found.columns):
            for name, part in held_columns.items():
                held_columns[name] = part[order]
    _settle_none(found)
    return found


def _joined(parts: list[NDArray[Any]]) -> NDArray[Any]:
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _settle_none(found: CollectedAnswers) -> None:
    """Give the class that stands for nothing a number beside the others."""
    if found.form.task == "multilabel":
        found.none = found.form.classes
    elif found.form.task == "detection":
        found.confusion, found.none = settled_detection(found.confusion)
        for name in ("target", "predicted"):
            found.table[name][found.table[name] == NOTHING] = found.none


@dataclass
class Totals:
    """Sums over all samples, also over those that are too many to be remembered."""

    samples: int = 0
    answers: int = 0  # answers that count: one a sample, or its pixels, labels or boxes
    wrong: int = 0  # of these, the wrong ones
    broken: int = 0  # samples whose scores are not finite
    outside: int = 0  # answers whose target is no class of the model

    @property
    def weight(self) -> float:
        """Weight of an answer: those of one sample go together, and weigh as much as it."""
        return self.samples / self.answers

    def add(self, other: Totals) -> None:
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)
