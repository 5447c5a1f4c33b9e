"""How many samples a batch holds: every length in it is tried, and the one kept that explains the most of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from lightning_debugkit.data.containers import (
    CannotSplit,
    is_array,
    is_dense_dict,
    is_graphs,
    is_opaque,
    is_plain,
    items_of,
    tensors,
)

_FEW = 3  # tensors of one shape in a list: views of a sample, more often than as many samples
_CHANNELS = 4
_PICTURE = 3


@dataclass
class _Fit:
    """How well a number of samples explains a batch."""

    is_column: bool | None  # whether a part holds something of each sample; `None` if it is shared, `False` if neither
    strong: int = 0  # parts that hardly have this length by chance
    odd: int = 0  # parts that would be odd, such as a list of texts that are not one a sample


def sizes(batch: Any, asked: int | None) -> list[int]:
    """Return the number of samples; several if the batch can be read in several ways, none if in no way."""
    columns = _length_of_columns(batch)  # the usual batch, asked for many times
    return tried(batch, asked) if columns is None else [columns]


def _length_of_columns(batch: Any) -> int | None:
    """Return the one length of tensors of several types: such are no samples, so that no other length explains them."""
    if type(batch) not in (list, tuple) or {*map(type, batch)} != {Tensor} or len({each.dtype for each in batch}) == 1:
        return None
    lengths = {each.size(0) if each.ndim else None for each in batch}
    return lengths.pop() if len(lengths) == 1 else None


def tried(batch: Any, asked: int | None) -> list[int]:
    """Return the same as `sizes`, of any batch: every length in it is tried."""
    try:
        lengths = set(_lengths(batch, ()))
    except CannotSplit:
        return []
    fits = {n: fit for n in sorted(lengths) if (fit := _fit(batch, n)).is_column}
    if not fits:
        return []
    least = min(fit.odd for fit in fits.values())
    fits = {n: fit for n, fit in fits.items() if fit.odd == least}
    if asked in fits:
        return [asked]
    if len(fits) > 1:
        fits.pop(1, None)  # a dimension of 1 is shared by all
    most = max(fit.strong for fit in fits.values())
    found = [n for n, fit in fits.items() if fit.strong == most]
    if len(found) > 1 and isinstance(batch, list | tuple) and len(batch) <= _FEW and len(batch) in found:
        found.remove(len(batch))
    return found


def check_open(batch: Any) -> None:
    """Raise `CannotSplit` where an object holds itself."""
    list(_lengths(batch, ()))


def _lengths(value: Any, above: tuple[int, ...]) -> Iterator[int]:
    if id(value) in above:
        raise CannotSplit(f"a {type(value).__name__} in it holds itself")
    own = own_length(value)
    if own is not None:
        yield own
        return
    if isinstance(value, Sequence) and not is_plain(value) and not hasattr(value, "_fields") and len(value):
        yield len(value)
    for _, item in items_of(value) or ():
        yield from _lengths(item, above if is_plain(item) else (*above, id(value)))


def own_length(value: Any) -> int | None:
    """Return how many samples lie in something that is indexed as a whole, ``None`` if that is not to be told."""
    if isinstance(value, PackedSequence):
        return int(value.batch_sizes[0])
    if isinstance(value, Tensor):
        return value.size(0) if value.ndim else None
    if is_array(value):
        return len(value) if value.ndim else None
    if is_graphs(value):
        count = getattr(value, "num_graphs", None) if hasattr(type(value), "index_select") else None
        return count if hasattr(value, "_slice_dict") and isinstance(count, int) else None
    return value.batch_size[0] if is_dense_dict(value) and value.batch_size else None


def _fit(value: Any, n: int, is_listed: bool = False) -> _Fit:
    if is_plain(value):
        return _Fit(None)
    if isinstance(value, Tensor) or is_array(value):
        length = own_length(value)
        if length is None or (length == 1 and n > 1):
            return _Fit(None)
        return _Fit(length == n, strong=1)
    if isinstance(value, PackedSequence) or is_graphs(value) or (is_dense_dict(value) and value.batch_size):
        return _Fit(own_length(value) == n, strong=1)
    items = items_of(value)
    if items is None:
        return _Fit(False if is_opaque(value) else None)
    inside = [item for _, item in items]
    if may_hold_entries(value) and len(value) == n and (is_listed or is_of_samples(value, n)):
        are_tensors = isinstance(value[0], Tensor)
        return _Fit(True, strong=int(is_listed or not are_tensors or len({_shape(item) for item in value}) > 1))
    return _of_parts(value, inside, n)


def _of_parts(value: Any, inside: list[Any], n: int) -> _Fit:
    is_listed = are_listed(inside, n)
    parts = [_fit(item, n, is_listed and may_hold_entries(item)) for item in inside]
    kinds = [part.is_column for part in parts]
    column = False if False in kinds else (True if True in kinds else None)
    strong, odd = sum(part.strong for part in parts if part.is_column), sum(part.odd for part in parts)
    if may_hold_entries(value) and not hasattr(value, "_fields"):
        alike = _are_views(value)
        strong = (
            0 if alike and n in {len(value), *(len(item) for item in value if isinstance(item, Tensor))} else strong
        )
        odd += _is_odd(value)
    return _Fit(column, strong, odd)


def may_hold_entries(value: Any) -> bool:
    """Tell whether ``value`` is a sequence that may hold one entry for each sample."""
    return isinstance(value, Sequence) and not is_plain(value) and not hasattr(value, "_fields") and len(value) > 0


def is_of_samples(value: Sequence[Any], n: int) -> bool:
    """Tell whether a sequence of ``n`` entries holds one for each of ``n`` samples; else its entries are columns."""
    if not _are_of_one_kind(value):
        return False
    if isinstance(value[0], Mapping) or is_plain(value[0]) or _are_pairs(value):
        return True
    inside = [_fit(item, n).is_column for item in value]
    if False in inside or True not in inside:
        return True
    return isinstance(value, list) and n > _FEW


def _are_of_one_kind(value: Sequence[Any]) -> bool:
    """Tell whether entries may be of one sample each: tensors of one make, mappings of the same keys, plain values."""
    if len({_make(item) for item in value}) > 1:
        return False
    first = value[0]
    if isinstance(first, Tensor) or is_array(first):
        return _may_be_samples(value)
    # Samples come as tuples; a list is a column, unless it is one of numbers or words.
    return not isinstance(first, list) or len(value) > _FEW or all(map(is_plain, first))


def _make(item: Any) -> str | type | tuple[Any, ...]:
    """Return what an entry is made of, without its size."""
    if is_plain(item):
        return "plain"
    if isinstance(item, Tensor) or is_array(item):
        return type(item), len(_shape(item)), item.dtype
    if isinstance(item, Mapping):
        return type(item), frozenset(map(str, item.keys()))
    if isinstance(item, tuple):
        return type(item), tuple(_make(part) for part in item)
    if isinstance(item, list):
        return list, frozenset(map(_make, item))
    return type(item)


def _may_be_samples(value: Sequence[Any]) -> bool:
    """Tell whether tensors of one make may be those of samples: alike but for their length, or pictures of any size."""
    shapes = {_shape(item) for item in value}
    if isinstance(value, tuple) and len(shapes) > 1 and len(_shape(value[0])) < _PICTURE:
        return len({shape[1:] for shape in shapes}) == 1 and len(value) > _FEW
    return _are_pictures(shapes) or len({shape[1:] for shape in shapes}) == 1


def _are_pictures(shapes: set[tuple[int, ...]]) -> bool:
    return all(len(shape) == _PICTURE and shape[0] <= _CHANNELS for shape in shapes)


def _shape(value: Any) -> tuple[int, ...]:
    # A nested tensor has no shape, or one that is not of numbers.
    return (value.size(0),) if isinstance(value, Tensor) and value.is_nested else tuple(value.shape)


def _are_pairs(value: Sequence[Any]) -> bool:
    """Tell whether a list holds an (image, target) tuple for each sample: a column holds things of one kind."""
    if not isinstance(value, list) or not all(isinstance(item, tuple) for item in value):
        return False
    kinds = [
        {(type(part), getattr(part, "ndim", None), getattr(part, "dtype", None)) for part in item} for item in value
    ]
    return all(len(kind) > 1 for kind in kinds)


def _are_views(value: Sequence[Any]) -> bool:
    """Tell whether a sequence holds tensors of one shape: as many samples, or as many views of the same samples."""
    if len(value) < 2 or not all(isinstance(item, Tensor) and item.dim() for item in value):
        return False
    shapes = {_shape(item) for item in value}
    return _are_of_one_kind(value) and (len(shapes) == 1 or _are_pictures(shapes))


def are_listed(inside: list[Any], n: int) -> bool:
    """Tell whether all parts are lists of ``n`` entries, and one of them can be nothing but one entry a sample."""
    parts = [item for item in inside if not is_plain(item)]
    if len(parts) < 2 or not all(may_hold_entries(item) and len(item) == n for item in parts):
        return False
    return any(all(is_plain(e) or isinstance(e, Mapping) for e in item) and _are_of_one_kind(item) for item in parts)


def _is_odd(value: Sequence[Any]) -> bool:
    """Tell whether a list is read as columns though it looks like one of samples."""
    if len(value) > 1 and all(is_plain(item) for item in value):
        return True
    if isinstance(value[0], Mapping):
        return isinstance(value, list | tuple) and _are_of_one_kind(value) and (len(value) > _FEW or _differ(value))
    return _are_pairs(value)


def _differ(value: Sequence[Any]) -> bool:
    """Tell whether mappings hold tensors of several shapes, or plain values: then they are samples, no columns."""
    shapes = {tuple(map(_shape, tensors(item))) for item in value}
    return len(shapes) > 1
