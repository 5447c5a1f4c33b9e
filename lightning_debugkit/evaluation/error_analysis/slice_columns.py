"""What else is known of each sample, for the search of weak slices: metadata of the batch, and what its input shows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import PurePath
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lightning_debugkit.data.sample_entries import INDICES
from lightning_debugkit.evaluation.predictions.readings import TARGETS, named_reading

Column: TypeAlias = Tensor | Sequence[Any]

MOST = 12
INPUTS = (
    *("image", "images", "img", "pixel_values", "x", "input", "inputs"),
    *("text", "texts", "sentence", "input_ids"),
)
_COLORS = (1, 3, 4)
_IMAGE, _TOKENS = 4, 2
_PART = 1_000
_VALUES = 1_000  # a text column of more values names samples, not kinds of them


def columns_of(
    batch: Any, outputs: Any, n: int, names: Sequence[str] | None, taken: Sequence[Any]
) -> dict[str, Column]:
    """Return what is known of the ``n`` samples of a batch, by name.

    Args:
        n: Samples.
        names: Entries wanted; every one that holds a number or a word for each sample if ``None``.
        taken: Tensors that are predictions and targets.
    """
    if names is not None:
        found = {name: named_reading(batch, (name,)) or named_reading(outputs, (name,)) for name in names}
        columns = {name: held[1] for name, held in found.items() if held is not None and _is_column(held[1], n)}
    else:
        entries = (*_metadata(batch), *_metadata(outputs.get("slices") if isinstance(outputs, Mapping) else None))
        own = [(name, held) for name, held in entries if not any(held is one for one in taken)]
        columns = {name: held for name, held in own if name not in (*TARGETS, *INDICES) and _is_column(held, n)}
    return dict(list({**columns, **_computed(batch, n, taken)}.items())[:MOST])


def indices_of(batch: Any, outputs: Any, n: int) -> Tensor | None:
    """Return the dataset indices that a batch or a step names itself."""
    for held in (named_reading(outputs, INDICES), named_reading(batch, INDICES)):
        if held is not None and isinstance(held[1], Tensor) and held[1].shape == (n,):
            return held[1].long()
    return None


def _metadata(batch: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the entries of a mapping, and of what stands beside the input and the target of a tuple."""
    if isinstance(batch, Mapping):
        yield from ((str(name), held) for name, held in batch.items())
    elif isinstance(batch, tuple | list) and not path:
        for at, held in list(enumerate(batch))[2:]:
            if isinstance(held, Mapping):
                yield from _metadata(held, path="inside")
            else:
                yield f"batch[{at}]", held


def _is_column(held: Any, n: int) -> bool:
    if isinstance(held, Tensor):
        return held.shape in ((n,), (n, 1)) and not held.is_complex()
    if not isinstance(held, tuple | list) or len(held) != n or all(value is None for value in held):
        return False
    return all(isinstance(value, str | int | float | None) for value in held)


def _computed(batch: Any, n: int, taken: Sequence[Any]) -> dict[str, Column]:
    """Return simple properties of the input: light and contrast of images, length of texts."""
    for held in _inputs(batch):
        if any(held is one for one in taken):
            continue
        if isinstance(held, Tensor) and len(held) == n and held.ndim == _IMAGE:
            if held.shape[1] in _COLORS or held.shape[3] in _COLORS:
                pixels = held.detach().flatten(1).float()
                deviation, mean = torch.std_mean(pixels, 1)
                return {"brightness": mean, "contrast": deviation}
        elif isinstance(held, Tensor) and held.ndim == _TOKENS and len(held) == n and held.dtype == torch.long:
            mask = named_reading(batch, ("attention_mask",))
            if mask is not None and mask[1].shape == held.shape:
                return {"length": (mask[1] != 0).sum(1)}
            return {"length": _padded_length(held)}
        elif isinstance(held, list | tuple) and len(held) == n and all(isinstance(text, str) for text in held):
            return {"length": [len(text) for text in held]}
    return {}


def _padded_length(tokens: Tensor) -> Tensor:
    """Return how many entries of each row are not 0; nan where zeros are not at one end, as in a table of numbers."""
    seen = tokens != 0
    is_text = (seen[:, 1:] <= seen[:, :-1]).all(1) | (seen[:, 1:] >= seen[:, :-1]).all(1)
    return seen.sum(1).float().where(is_text, torch.nan)


def _inputs(batch: Any) -> Iterator[Any]:
    if isinstance(batch, tuple | list) and batch:
        yield batch[0]
    elif isinstance(batch, Mapping):
        yield from (batch[name] for name in INPUTS if name in batch)


class Columns:
    """Turns columns into one tensor of numbers a batch; words become codes."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = list(names)
        self.codes: dict[str, dict[str, int]] = {}
        self._has_words: dict[str, bool] = {}

    def numbers(self, columns: Mapping[str, Column], n: int, device: torch.device) -> Tensor:
        """Return a batch's columns, (n, columns); nan where a column is missing."""
        # Identity numbers of nine digits are apart in 64 bits only, which Apple's devices do not have.
        dtype = torch.float32 if device.type == "mps" else torch.float64
        missing = torch.full((n,), torch.nan, dtype=dtype, device=device)
        given = [
            self._number(name, columns[name]).to(device, dtype) if name in columns else missing for name in self.names
        ]
        return torch.stack(given, 1) if given else torch.zeros(n, 0, dtype=dtype, device=device)

    def _number(self, name: str, held: Column) -> Tensor:
        if name not in self._has_words:
            # The first batch tells for all: what is a number there is none where it is a word.
            self._has_words[name] = not isinstance(held, Tensor) and any(isinstance(value, str) for value in held)
        if isinstance(held, Tensor):
            held = held.detach().reshape(-1)
            if not self._has_words[name]:
                return held
            held = held.tolist()
        if not self._has_words[name]:
            numbers = [torch.nan if isinstance(value, str | None) else float(value) for value in held]
            return torch.tensor(numbers, dtype=torch.float64)
        codes = self.codes.setdefault(name, {})
        # Codes of words that are too many are of no use: the column is dropped in the end.
        limit = _VALUES + 1
        return torch.tensor([torch.nan if value is None else _code(codes, _kind(value), limit) for value in held])


def _code(codes: dict[str, int], word: str, limit: int) -> float:
    return float(codes.setdefault(word, len(codes)) if len(codes) < limit else limit)


def _kind(value: Any) -> str:
    """Return the word that a sample shares with others: of a file, its folder."""
    text = str(value)
    path = PurePath(text)
    return str(path.parent) if path.suffix and len(path.parts) > 1 else text


def decoded(
    names: Sequence[Sequence[str]], codes: Sequence[Mapping[str, Mapping[str, int]]], parts: Sequence[NDArray[Any]]
) -> dict[str, NDArray[Any]]:
    """Return the columns of all ranks by name, words as words; without those of too many words.

    Args:
        names: Columns of each rank: what its first batch had.
        codes: Of each rank, by column.
        parts: Of each rank, (n, columns).
    """
    found: dict[str, NDArray[Any]] = {}
    for name in list(dict.fromkeys(name for held in names for name in held))[: MOST + 1]:
        numbers = [
            _of(part, held.index(name) if name in held else None) for held, part in zip(names, parts, strict=True)
        ]
        if not any(name in held for held in codes):
            found[name] = np.concatenate(numbers)
        elif all(len(held.get(name, {})) <= _VALUES for held in codes):
            words = [_words(held.get(name), part) for held, part in zip(codes, numbers, strict=True)]
            found[name] = np.concatenate(words)
    return found


def _of(part: NDArray[Any], at: int | None) -> NDArray[Any]:
    return np.full(len(part), np.nan) if at is None else part[:, at]


def _words(codes: Mapping[str, int] | None, column: NDArray[Any]) -> NDArray[Any]:
    if codes is None:  # a rank whose first batch had numbers there
        return np.array([None if np.isnan(value) else f"{value:g}" for value in column.tolist()], dtype=object)
    words = np.array([*codes, None], dtype=object)
    found: NDArray[Any] = words[np.where(np.isnan(column), len(codes), column).astype(int)]
    return found


def class_column(columns: Iterable[str]) -> str:
    """Return what the column of the classes is called, beside those of the user's own."""
    return "class (target)" if "class" in columns else "class"


def says_the_same(column: NDArray[Any], target: NDArray[Any]) -> bool:
    """Tell whether a column is the target, by whatever name: each of its values stands for one class.

    >>> says_the_same(np.array(["cat", "dog", "cat"]), np.array([3, 5, 3]))
    True
    """
    # What is not the same in a part is not the same.
    for part in (slice(_PART), slice(None)):
        values, classes = column[part].tolist(), target[part].tolist()
        pairs = set(zip(values, classes, strict=True))
        if not len(set(values)) == len(set(classes)) == len(pairs) > 1:
            return False
    return True
