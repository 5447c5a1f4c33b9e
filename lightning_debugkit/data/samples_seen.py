"""What flowed by of one split: a bounded number of samples, their fingerprints, and the labels of all."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lightning_debugkit.core.tensor_numbers import numbers
from lightning_debugkit.data.batches import batch_size, leaves
from lightning_debugkit.data.label_forms import NAMES, are_classes
from lightning_debugkit.data.near_duplicates import SIDE, is_large_picture, thumbnails
from lightning_debugkit.data.packed_rows import bags

# Of so many a split, one shared sample in a hundred shows where each split is ten times as large.
SAMPLES = 20_000
BYTES = 1 << 28  # that are looked at, a quarter of a second: of large samples fewer are, but not fewer than INPUTS
INPUTS = 2000  # samples whose values are kept
VALUES = 1 << 22  # and entries of them, 16 MB: of large samples fewer
THUMBNAILS = 5 << 20  # entries of all samples made small, 20 MB
LABELS = 100_000
OUTPUTS = 64  # numbers that are predicted of one sample: more are a picture, or the input again
PRINT = 8  # bytes
PAIR = 2  # parts of a batch of inputs and targets
# A sample of so many entries, with so many values among them, is not met twice by chance; nor is a row of a table in
# which so many columns hardly repeat a number among the rows that differ.
RICH = 16
KINDS = 8
COLUMNS = 3
UNIQUE = 0.9
ROW = 2  # dimensions of a part of a row, with one or some entries for each sample


@dataclass
class Seen:
    """One split, as far as it has flowed by."""

    most: int = SAMPLES  # samples that are looked at
    inputs: list[Tensor] = field(default_factory=list)  # the first samples, each flattened to float32
    small: list[Tensor] = field(default_factory=list)  # more of them, pictures reduced to a few pixels
    # labels of all batches, each `(n,)` integers on the loader's device
    labels: list[Tensor] = field(default_factory=list)
    # targets of all batches that are numbers, each `(n, k)`, where there are no labels
    numbers: list[Tensor] = field(default_factory=list)
    batches: int = 0
    taken: int = 0  # samples that flowed by
    is_measured: bool = False  # inputs are numbers with a fraction
    is_float: bool = False  # inputs are stored as floats
    is_text: bool = False  # whole numbers in a row, as those of words or letters are: text repeats itself
    shape: tuple[int, ...] = ()  # of one sample
    ignored: set[int] = field(default_factory=set)  # labels that the loss leaves out
    _shape: tuple[int, ...] | None = None
    _is_ragged: bool = False
    _is_paired: bool = True
    _same: frozenset[str] | None = None  # paths of what is no input, as the first batch tells
    _bytes: int = 0
    _held: Counter[str] = field(default_factory=Counter)  # how much of each is kept: asked in each batch
    _prints: bytearray = field(default_factory=bytearray)

    def take(self, batch: Any) -> None:
        """Keep what is needed of a batch; what cannot be split into samples is passed over."""
        self.batches += 1
        size = batch_size(batch)
        if size is None:
            self._is_paired = False
            self._take_labels(bags(batch))
            return
        self.taken += size
        if self._same is None:
            self._same = same_in_all(batch, size)
        values, labels = parts_of(batch, size, self._same)
        if labels is not None and self._held["labels"] < LABELS:
            self.labels.append(labels.detach())
            self._held["labels"] += len(labels)
        wanted = None if labels is not None or values is None else numbers_of(batch, size, self._same)
        if wanted is not None:
            self.numbers.append(wanted.detach())
        if not self.is_full:
            self._is_paired &= (values is None) == (labels is None and wanted is None)
        if values is not None and not self.is_full:
            self._keep(values.detach()[: self.most - self.count].cpu())

    def _take_labels(self, parts: tuple[Tensor, ...]) -> None:
        """Keep the labels of a batch whose inputs are not told apart by sample."""
        whole = [part for part in parts if _is_whole(part)]
        if len(whole) == 1 and self._held["labels"] < LABELS:
            self.taken += len(whole[0])
            self.labels.append(whole[0].detach())
            self._held["labels"] += len(whole[0])

    @property
    def is_full(self) -> bool:
        """Tell whether no more samples are looked at."""
        is_large = self.most <= SAMPLES and self._bytes >= BYTES and self.count >= INPUTS
        return self.count >= self.most or is_large

    def _keep(self, values: Tensor) -> None:
        rows = values.contiguous().flatten(1) if values.ndim > 1 else values[:, None].contiguous()
        if rows.is_floating_point():
            self.is_float = True
            rows = rows.float()  # one sample may be stored in two precisions
            self.is_measured = self.is_measured or bool((rows != rows.round()).any())
        raw = rows.view(torch.uint8).numpy() if rows.dtype != torch.bool else rows.numpy()
        for row in raw:
            self._prints += hashlib.blake2b(row.tobytes(), digest_size=PRINT).digest()
        self._is_ragged = self._is_ragged or self._shape not in (None, tuple(rows.shape[1:]))
        self._shape, self.shape = tuple(rows.shape[1:]), tuple(values.shape[1:])
        self.is_text = len(self.shape) == 1 and rows.dtype in (torch.int16, torch.int32, torch.int64)
        self._bytes += raw.nbytes
        held = self._held
        if held["inputs"] < INPUTS and held["values of inputs"] < VALUES:
            self.inputs.append(rows.float())
            held.update({"inputs": len(rows), "values of inputs": rows.numel()})
        if held["small"] < SAMPLES and held["values of small"] < THUMBNAILS:
            self.small.append(small := thumbnails(values))
            held.update({"small": len(small), "values of small": small.numel()})

    @property
    def is_paired(self) -> bool:
        """Tell whether each input that is kept has its target at the same place: both were told in each batch."""
        return self._is_paired and not (self.labels and self.numbers)

    @property
    def count(self) -> int:
        """Samples that were looked at."""
        return len(self._prints) // PRINT

    @property
    def prints(self) -> NDArray[np.uint64]:
        """Fingerprint of each sample, from all of its bytes, in order; of a million, two are one by chance in 3e-8."""
        return np.frombuffer(bytes(self._prints), np.uint64)

    @property
    def values(self) -> Tensor | None:
        """Samples ``(n, d)`` float32, ``None`` if there are none or their sizes differ."""
        return torch.cat(self.inputs) if self.inputs and not self._is_ragged else None

    @property
    def thumbnails(self) -> Tensor | None:
        """Samples made small ``(n, d)`` float32, ``None`` if there are none or their sizes differ."""
        return torch.cat(self.small) if self.small and not self._is_ragged else None

    def sample(self, at: int) -> tuple[Tensor, tuple[int, ...]] | None:
        """Return one sample ``(1, d)`` and its shape, beyond the first ones the small one; ``None`` without."""
        rows, small = self.values, self.thumbnails
        if rows is not None and at < len(rows):
            return rows[at : at + 1], self.shape
        if small is None or at >= len(small):
            return None
        return small[at : at + 1], (1, SIDE, SIDE) if is_large_picture(self.shape) else self.shape

    @property
    def is_rich(self) -> bool:
        """Tell whether samples have so many values that no two are equal by chance."""
        if not self.inputs or self._is_ragged:
            return False
        if self.inputs[0].shape[1] < RICH:
            return self._has_measurements()
        kinds = [len(row.unique()) for row in self.inputs[0][:RICH]]
        return float(np.median(kinds)) >= KINDS

    def _has_measurements(self) -> bool:
        rows = torch.cat(self.inputs).unique(dim=0)
        kinds = [len(column.unique()) for column in rows.T]
        return sum(count >= UNIQUE * len(rows) for count in kinds) >= COLUMNS

    @property
    def classes(self) -> NDArray[np.int64] | None:
        """Labels ``(n,)`` of all samples in the order in which they came, ``None`` if there are none."""
        return torch.cat([part.cpu() for part in self.labels]).numpy().astype(np.int64) if self.labels else None

    @property
    def named(self) -> NDArray[np.bool_]:
        """Which of `classes` are such: others say that the sample has none."""
        labels = self.classes
        return np.ones(0, bool) if labels is None else are_classes(labels, self.ignored)

    @property
    def counted(self) -> NDArray[np.int64] | None:
        """The same, or numbers ``(n,)`` that are all 0 or 1: what a loss of one logit is given stands for classes."""
        numbers = self.wanted
        if numbers is None or numbers.shape[1] != 1 or not bool(((numbers == 0) | (numbers == 1)).all()):
            return None if self.classes is None else self.classes[self.named]
        return numbers[:, 0].numpy().astype(np.int64)

    @property
    def targets(self) -> NDArray[Any] | None:
        """Classes or numbers of all samples in the order in which they came, ``None`` if there are none."""
        numbers = self.wanted
        if numbers is None:
            return self.classes
        return numbers[:, 0].numpy() if numbers.shape[1] == 1 else None

    @property
    def wanted(self) -> Tensor | None:
        """Numbers to be predicted ``(n, k)`` float32 of all samples in their order, ``None`` if there are none."""
        if self.labels or len({part.shape[1] for part in self.numbers}) != 1:
            return None
        return torch.cat([part.cpu() for part in self.numbers]).float()

    @property
    def by_batch(self) -> Iterator[NDArray[np.int64]]:
        """The labels batch by batch, those that name a class."""
        labels = self.classes
        if labels is None:
            return
        ends = np.cumsum([len(part) for part in self.labels])[:-1]
        for part, named in zip(np.split(labels, ends), np.split(self.named, ends), strict=True):
            yield part[named]


def same_in_all(batch: Any, size: int) -> frozenset[str]:
    """Return the paths of inputs that are the same in all samples, such as a mask or grid, where another is not."""
    columns = list(_columns(batch, size))
    inputs = [part for part in columns if part[1].numel() > size and part[0].rpartition(".")[2].lower() not in NAMES]
    if len(columns) == PAIR:
        inputs = [part for part in inputs if part[0] != "1"]
    still = frozenset(path for path, leaf in inputs if bool((leaf == leaf[:1]).all()))
    return still if len(still) < len(inputs) else frozenset()


def parts_of(batch: Any, size: int, same: frozenset[str] = frozenset()) -> tuple[Tensor | None, Tensor | None]:
    """Return the main input ``(n, ...)`` of a batch and its labels ``(n,)``, ``None`` for what is not certain.

    The labels are the only whole numbers ``(n,)``, or those ``(n,)`` or ``(n, 1)`` that are called so; the main input
    is the largest tensor of the others, or the row whose parts come packed together; nothing at the paths ``same``.
    """
    columns = [part for part in _columns(batch, size) if part[0] not in same]
    single = [(path, leaf) for path, leaf in columns if leaf.numel() == size and _is_whole(leaf)]
    named = [leaf for path, leaf in single if path.rpartition(".")[2].lower() in NAMES]
    whole = [leaf for _, leaf in single if leaf.ndim == 1]
    # Whole numbers by themselves are what the model looks up: nodes, words.
    is_beside = len(whole) == 1 and len(columns) > 1
    labels = named[0] if len(named) == 1 else whole[0] if is_beside else None
    main = _main(columns, labels)
    values = torch.cat([leaf.reshape(size, -1) for leaf in main], 1) if len(main) > 1 else next(iter(main), None)
    return values, None if labels is None else labels.reshape(-1)


def numbers_of(batch: Any, size: int, same: frozenset[str] = frozenset()) -> Tensor | None:
    """Return the numbers ``(n, k)`` that are to be predicted of each sample: one, or a few at the end of a pair.

    One is told by being alone beside the main input, a few by standing where targets do.
    """
    columns = [part for part in _columns(batch, size) if part[0] not in same]
    main = _main(columns)
    taken = [part.data_ptr() for part in main]
    rest = [(path, leaf) for path, leaf in columns if leaf.data_ptr() not in taken]
    others = [(path, leaf) for path, leaf in rest if leaf.is_floating_point()]
    alone = [(path, leaf) for path, leaf in others if leaf.numel() == size]
    named = [(path, leaf) for path, leaf in alone if path.rpartition(".")[2].lower() in NAMES]
    if len(found := named or alone) == 1:
        return found[0][1].reshape(size, 1)
    is_target = len(others) == 1 and (others[0][0] == "1" or others[0][0].rpartition(".")[2].lower() in NAMES)
    if len(rest) != 1 or not is_target or not size < others[0][1].numel() <= OUTPUTS * size:
        return None
    return others[0][1].reshape(size, -1) if 2 * others[0][1].numel() < sum(map(Tensor.numel, main)) else None


def _main(columns: Sequence[tuple[str, Tensor]], labels: Tensor | None = None) -> list[Tensor]:
    """Return the largest tensor beside the labels, or all parts of the row that it is a part of.

    A row comes in parts where inputs are packed together, and the target stands outside.
    """
    others = [(path, leaf) for path, leaf in columns if leaf is not labels]
    path, largest = max(others, key=lambda column: column[1].numel(), default=("", None))
    above = path.rpartition(".")[0]
    parts = [leaf for other, leaf in others if other.rpartition(".")[0] == above]
    has_target = any(other == "1" or other.lower() in NAMES for other, _ in columns)
    is_row = bool(above) and has_target and all(leaf.ndim <= ROW and leaf.is_floating_point() for leaf in parts)
    return parts if is_row else [] if largest is None else [largest]


def _columns(batch: Any, size: int) -> Iterator[tuple[str, Tensor]]:
    for path, leaf in leaves(batch):
        if isinstance(leaf, Tensor) and _is_column(leaf, size) and (plain := numbers(leaf)) is not None:
            yield path, plain


def _is_column(leaf: Tensor, size: int) -> bool:
    is_whole = leaf.layout is torch.strided and not leaf.is_nested and leaf.ndim > 0
    return is_whole and leaf.shape[0] == size and not leaf.is_complex()


def _is_whole(leaf: Tensor) -> bool:
    return not leaf.is_floating_point()
