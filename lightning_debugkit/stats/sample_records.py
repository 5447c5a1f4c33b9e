"""What a model says of each sample, in few bytes: enough for label errors without all the probabilities."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lightning_debugkit.stats.arrays import Integers
from lightning_debugkit.stats.row_buffer import Block, RowBuffer

TOP = 3
ALL = 10  # classes up to which all are kept
_NARROW = (1 << 16) - 1  # classes that 16 bits number


@dataclass(frozen=True)
class SampleRecord:
    """What the scores of a batch say, a row a sample, on their device."""

    classes: Tensor  # (n, named) the likeliest classes, the likeliest first: three, or one where there are ten or fewer
    probabilities: Tensor  # (n, kept) of them, or of all classes in their order where there are ten or fewer
    confidence: Tensor  # (n,) of the likeliest
    probability: Tensor  # (n,) of the target; nan where the target is no class
    loss: Tensor  # (n,) cross entropy of the sample
    width: int  # classes that there are scores of

    @property
    def predicted(self) -> Tensor:
        """(n,) the class that ``argmax`` gives, also among equals."""
        return self.classes[:, 0]

    def first(self, n: int) -> SampleRecord:
        """Return the first rows, all if there are no more than ``n``."""
        if len(self.loss) <= n:
            return self
        return SampleRecord(
            classes=self.classes[:n],
            probabilities=self.probabilities[:n],
            confidence=self.confidence[:n],
            probability=self.probability[:n],
            loss=self.loss[:n],
            width=self.width,
        )


def sample_record(scores: Tensor, target: Tensor, is_logits: bool = True) -> SampleRecord:
    """Return the likeliest classes, their probabilities and that of the target.

    Args:
        scores: Logits or probabilities.

    Shapes:
        scores: (n, classes); target: (n,).

    >>> found = sample_record(torch.tensor([[0.1, 0.7, 0.2]]), torch.tensor([2]), is_logits=False)
    >>> found.classes, found.probability
    (tensor([[1]]), tensor([0.2000]))
    """
    if scores.ndim != 2 or target.shape != scores.shape[:1] or target.is_floating_point():
        raise ValueError(
            "Records needs scores of shape (n, classes) and whole targets of shape (n,), got "
            f"{list(scores.shape)} and {list(target.shape)} {target.dtype}; give a row of scores and a class a sample."
        )
    scores, target, width = scores.detach(), target.to(scores.device), scores.shape[1]
    scores = scores if scores.dtype in (torch.float32, torch.float64) else scores.float()
    inside = (target >= 0) & (target < width)
    # An index out of bounds would end a CUDA process.
    own = scores.gather(1, target.long().clamp(0, width - 1)[:, None])[:, 0]
    own = own.masked_fill(~inside, torch.nan)
    kept, top, classes = _likeliest(scores)
    if is_logits:
        total = scores.logsumexp(dim=1)
        kept, top = (kept - total[:, None]).exp(), (top - total).exp()
        return SampleRecord(classes, kept, top, (own - total).exp(), total - own, width)
    return SampleRecord(classes, kept, top, own, -own.log(), width)


def _likeliest(scores: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The scores to keep, the largest, and the classes of the largest, the first as ``argmax`` has it."""
    if scores.shape[1] <= ALL:
        top, first = scores.max(dim=1)
        return scores, top, first[:, None]
    largest, classes = scores.topk(TOP, dim=1)
    equal = largest[:, 0] == largest[:, 1]
    # ``topk`` orders equal ones as it likes.
    if scores.device.type != "cpu" or equal.any():
        first = torch.where(equal, scores.argmax(dim=1), classes[:, 0])
        classes = torch.where(classes == first[:, None], classes[:, :1], classes)
        classes = torch.cat([first[:, None], classes[:, 1:]], dim=1)
    return largest, largest[:, 0], classes


@dataclass(frozen=True)
class RecordTable:
    """The samples of a record, a row each, without those that have no label or no numbers."""

    index: Integers  # of the sample in the dataset
    label: NDArray[Any]  # its class
    probability: NDArray[np.float32]  # of the label
    classes: NDArray[Any]  # (n, named) the likeliest classes, the likeliest first: one where all probabilities are kept
    probabilities: NDArray[np.float32]  # (n, kept) of them, or of all classes in their order
    width: int  # classes that there were scores of

    def __len__(self) -> int:
        return len(self.label)

    @property
    def is_whole(self) -> bool:
        """Whether the probabilities of all classes are kept."""
        return bool(self.probabilities.shape[1] == self.width)

    @property
    def predicted(self) -> NDArray[Any]:
        """The likeliest class of each sample."""
        return self.classes[:, 0]

    @property
    def confidence(self) -> NDArray[np.float32]:
        """The probability of the likeliest class."""
        if not self.is_whole:
            return self.probabilities[:, 0]
        return np.take_along_axis(self.probabilities, self.classes.astype(np.int64), axis=1)[:, 0]

    def take(self, rows: Integers) -> RecordTable:
        """Return some of the samples."""
        return RecordTable(
            self.index[rows],
            self.label[rows],
            self.probability[rows],
            self.classes[rows],
            self.probabilities[rows],
            self.width,
        )


class Records:
    """A record a sample: label, the likeliest classes, their probabilities and that of the label.

    The three likeliest are kept, or all where there are ten or fewer: 24 bytes a sample, on the host, 48 with ten
    classes, 32 with more than 65,535; and 8 more where an index is given.

    >>> records = Records()
    >>> found = records.update(torch.tensor([[0.1, 0.7, 0.2]]), torch.tensor([2]), is_logits=False)
    >>> records.table().label, records.table().probability
    (array([2], dtype=uint16), array([0.2], dtype=float32))
    """

    def __init__(self) -> None:
        self.classes = 0
        self._is_indexed = False
        self._buffer: RowBuffer | None = None
        self._blocks: list[Block] = []

    def update(
        self, scores: Tensor, target: Tensor, index: Tensor | None = None, is_logits: bool = True
    ) -> SampleRecord:
        """Keep a batch, and return what was seen in it.

        Args:
            scores: (n, classes) logits or probabilities.
            target: (n,) classes; a sample whose target is none of them is left out.
            index: (n,) places in the dataset; without it samples are numbered as they come.
        """
        found = sample_record(scores, target, is_logits)
        self.add(found, target, index)
        return found

    def add(self, found: SampleRecord, target: Tensor, index: Tensor | None = None) -> None:
        """Keep a batch that was looked at before."""
        buffer = self._buffer or self._begin(found.width, index is not None)
        if self._is_indexed != (index is not None):
            raise ValueError("Records needs an index with every batch or with none; number the others yourself.")
        if self.classes != found.width:
            raise ValueError(f"Records needs scores of {self.classes} classes as before, got {found.width}.")
        columns = [target.to(found.loss.device), found.probability, found.classes, found.probabilities]
        if index is not None:
            columns.append(index.to(found.loss.device))
        self._keep(buffer.add(*columns))

    def merge(self, other: Records) -> None:
        """Take in the samples of another, such as of another rank; give both an index, or theirs follow ours."""
        other._settle()
        if not other._blocks:
            return
        if self._buffer is None:
            self._begin(other.classes, other._is_indexed)
        self._settle()
        if (self._is_indexed, self.classes) != (other._is_indexed, other.classes):
            raise ValueError(
                "Records needs parts of as many classes, all with an index or none; number the others yourself."
            )
        self._blocks += other._blocks

    def __len__(self) -> int:
        """Samples kept, those without a label or numbers too."""
        self._settle()
        return sum(len(block[0]) for block in self._blocks)

    @property
    def broken(self) -> int:
        """Samples left out of the table because their target is no class or a score is no number."""
        return len(self) - len(self.table())

    def table(self) -> RecordTable:
        """Return the samples as arrays."""
        self._settle()
        if not self._blocks:
            none = np.empty(0, dtype=np.float32)
            names = none.astype(np.uint16)
            return RecordTable(np.empty(0, np.int64), names, none, names[:, None], none[:, None], self.classes)
        if len(self._blocks) > 1:
            self._blocks = [tuple(torch.cat(column) for column in zip(*self._blocks, strict=True))]
        label, probability, names, numbers = (column.numpy() for column in self._blocks[0][:4])
        index = self._blocks[0][4].numpy() if self._is_indexed else np.arange(len(label))
        unsigned = np.dtype(f"u{names.dtype.itemsize}")
        table = RecordTable(index, label.view(unsigned), probability, names.view(unsigned), numbers, self.classes)
        whole = np.isfinite(probability)
        if not np.isfinite(numbers).all():
            whole &= np.isfinite(numbers).all(axis=1)
        return table if whole.all() else table.take(np.flatnonzero(whole))

    def nameless(self) -> Records:
        """Return the same samples, their places in the dataset unknown."""
        held = self.state()
        columns = held["columns"][:4]
        index = [torch.full((len(columns[0]),), -1)] if columns else []
        return Records.of({**held, "is_indexed": True, "columns": [*columns, *index]})

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint or another rank needs: ``of`` makes the same again."""
        self._settle()
        columns = [torch.cat(column) for column in zip(*self._blocks, strict=True)]
        return {"classes": self.classes, "is_indexed": self._is_indexed, "columns": columns}

    @classmethod
    def of(cls, state: dict[str, Any]) -> Records:
        found = cls()
        if state["columns"]:
            found._begin(state["classes"], state["is_indexed"])
            found._blocks = [tuple(state["columns"])]
        return found

    def _begin(self, width: int, is_indexed: bool) -> RowBuffer:
        names = torch.int16 if width <= _NARROW else torch.int32
        dtypes = [names, torch.float32, names, torch.float32] + [torch.int64] * is_indexed
        self._buffer, self._is_indexed, self.classes = RowBuffer(dtypes), is_indexed, width
        return self._buffer

    def _settle(self) -> None:
        if self._buffer is not None:
            self._keep(self._buffer.rest())

    def _keep(self, blocks: Iterable[Block]) -> None:
        for block in blocks:
            self._blocks.append(
                tuple(column.clone() if column.device.type == "cpu" else column.cpu() for column in block)
            )
