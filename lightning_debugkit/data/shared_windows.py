"""Windows of one series in training and validation both: they share rows though no two of them are equal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from lightning_debugkit.core.finding import Finding, Where
from lightning_debugkit.data.duplicates import FEWEST, SHARE, TRAIN_VAL_OVERLAP

# So many measurements in a row, that differ, are not met twice by chance.
RUN = 8
ENTRIES = 1 << 20  # of each split that are looked at
_TOLD = (
    "{count} of {seen} validation windows that were looked at begin and end with rows that stand in training windows, "
    "shifted by some steps ({share:.0%}; {trained} training windows were looked at): the series was cut into windows "
    "first and split at random afterwards, and the validation score is partly one of what was learned by heart"
)
_REMEDY = "Split the series by time first, and cut each part into windows by itself."
Prints = NDArray[np.uint64]
_ODD = np.uint64(0x9E3779B97F4A7C15)


def judge(train: Tensor, val: Tensor, shape: Sequence[int], where: Where) -> Iterator[Finding]:
    """Yield that windows of validation begin and end inside those of training.

    One that reaches over the end of training, as the first of a split by time do, only begins there.

    Args:
        train: Windows ``(n, d)`` float32, flattened.
        val: Those of validation ``(k, e)``; of another size they are not compared.
        shape: Of one: a row of numbers, or time and columns in either order.
    """
    for axis in _axes(shape) if train.shape[1] == val.shape[1] else ():
        known, asked = (_in_time(split, shape, axis) for split in (train, val))
        begins, ends = _shared(known, asked, 0), _shared(known, asked, -1)
        count = int((begins & ends).sum())
        if count >= FEWEST and count >= SHARE * len(val) and not _repeats(train) and not _repeats(val):
            worded = replace(TRAIN_VAL_OVERLAP, says=_TOLD, advice=_REMEDY)
            yield worded.found(where, count=count, seen=len(val), share=count / len(val), trained=len(train))
            return


def are_shifted(windows: Tensor, shape: Sequence[int]) -> bool:
    """Tell whether samples ``(n, d)`` end within others: they are windows of one series."""
    each = (_in_time(windows, shape, axis) for axis in _axes(shape))
    return any(int(_shared(rows, rows, -1).sum()) >= max(FEWEST, SHARE * len(rows)) for rows in each)


def _axes(shape: Sequence[int]) -> list[int]:
    """Return along which dimensions of a sample time may go: long enough for two runs."""
    sizes = int(np.prod(shape))
    return [at for at, length in enumerate(shape) if len(shape) < 3 and length >= 2 * _size(sizes // length)]


def _size(columns: int) -> int:
    return max(-(-RUN // columns), 2)


def _in_time(windows: Tensor, shape: Sequence[int], axis: int) -> Tensor:
    """Return windows ``(n, d)`` as ``(n, length, columns)``."""
    windows = windows[: max(ENTRIES // windows.shape[1], 1)]
    windows = windows + 0  # -0 is 0
    return windows.reshape(len(windows), *shape, 1).movedim(axis + 1, 1).flatten(2)


def _shared(known: Tensor, asked: Tensor, end: int) -> NDArray[np.bool_]:
    """Tell which windows have their first (0) or last (-1) run at another place of one that is known."""
    size, length = _size(asked.shape[2]), asked.shape[1]
    others = _runs(known)
    others = others[:, 1:] if end == 0 else others[:, :-1]
    first = 0 if end == 0 else length - size
    own = asked[:, first : first + size]
    found = np.isin(_runs(own)[:, 0], others)
    kinds = own.flatten(1).sort(1).values.diff(dim=1).ne(0).sum(1) + 1
    shared: NDArray[np.bool_] = found & (kinds >= RUN - 1).numpy()
    return shared


def _runs(rows: Tensor) -> Prints:
    """Return a fingerprint of each run of rows of ``(n, length, columns)``, ``(n, runs)``."""
    length, columns = rows.shape[1:]
    size = _size(columns)
    weights = np.random.default_rng(0).integers(1, 2**63, columns, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
    bits = rows.contiguous().numpy().view(np.uint32).astype(np.uint64)
    numbers = _mixed((_mixed(bits) * weights).sum(2, dtype=np.uint64))
    found = np.zeros((len(rows), length - size + 1), np.uint64)
    for at in range(size):
        found = found * _ODD + numbers[:, at : at + length - size + 1]
    return found


def _mixed(numbers: Prints) -> Prints:
    """Return numbers whose bits hang on all bits (the steps of splitmix64, Steele et al., 2014)."""
    numbers = (numbers ^ (numbers >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    numbers = (numbers ^ (numbers >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return numbers ^ (numbers >> np.uint64(31))


def _repeats(windows: Tensor) -> bool:
    """Tell whether a series comes back to where it was: then windows are alike without being of one time."""
    return len({row.tobytes() for row in windows.contiguous().numpy()}) < len(windows)
