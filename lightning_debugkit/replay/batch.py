"""A batch as a tree: its leaves by path, its size, and parts of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor


def leaves(batch: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield ``(path, leaf)`` of nested mappings, lists and tuples, such as ``("1.boxes", tensor)``.

    Example:
        >>> [path for path, _ in leaves({"image": 1, "targets": [2, {"boxes": 3}]})]
        ['image', 'targets.0', 'targets.1.boxes']
    """
    if isinstance(batch, Mapping):
        items: Any = batch.items()
    elif _is_sequence(batch):
        items = enumerate(batch)
    else:
        yield path, batch
        return
    for key, item in items:
        yield from leaves(item, f"{path}.{key}" if path else str(key))


def batch_size(batch: Any) -> int | None:
    """Return how many samples ``batch`` holds, or ``None`` where that cannot be told for certain.

    Every tensor must have the samples as its first dimension (size 1 and scalars are shared by all), or the batch must
    be made of equally long lists with one entry a sample, as detection models have them.
    """
    if isinstance(batch, list) and len(batch) > 1 and isinstance(batch[0], tuple) and _is_one_a_sample(batch):
        return len(batch)
    if _is_of_pictures(batch):
        return len(batch[0])
    sizes = {leaf.shape[0] for _, leaf in leaves(batch) if isinstance(leaf, Tensor) and leaf.ndim}
    ones = sizes <= {1}
    sizes -= {1}
    plain = all(isinstance(leaf, Tensor | str | bytes | int | float | None) for _, leaf in leaves(batch))
    if len(sizes) == 1 and plain and not _has_namedtuple(batch):
        return sizes.pop()
    return _listed_size(batch) or (1 if ones and plain and not _has_namedtuple(batch) else None)


def take(batch: Any, size: int, indices: Sequence[int]) -> Any:
    """Return the samples ``indices`` of a batch of ``size`` samples; what is shared by all stays whole."""
    if isinstance(batch, Tensor):
        if batch.ndim and batch.shape[0] == size:
            return batch[torch.as_tensor(indices, dtype=torch.long, device=batch.device)]
        return batch
    if isinstance(batch, Mapping):
        return _like_mapping(batch, lambda item: take(item, size, indices))
    if _is_of_pictures(batch):
        return _like_sequence(batch, [_like_sequence(column, [column[index] for index in indices]) for column in batch])
    if _is_sequence(batch):
        if len(batch) == size and (_is_one_a_sample(batch) or not _is_column(batch, size, nested=False)):
            return _like_sequence(batch, [batch[index] for index in indices])
        return _like_sequence(batch, [take(item, size, indices) for item in batch])
    return batch


def _is_column(item: Any, size: int, nested: bool = True) -> bool | None:
    """Tell whether ``item`` holds something of each sample, ``None`` if it may as well be shared by all."""
    if isinstance(item, Tensor):
        return (item.shape[0] == size) if item.ndim and item.shape[0] != 1 else None
    if nested and _is_sequence(item) and len(item) == size:
        return True
    if isinstance(item, Mapping) or _is_sequence(item):
        inside = [_is_column(part, size) for part in (item.values() if isinstance(item, Mapping) else item)]
        return False if False in inside else (True if True in inside else None)
    return None


def _listed_size(batch: Any) -> int | None:
    """Return the length of the per-sample lists that a detection-like batch is made of."""
    if _is_sequence(batch) and len(batch) > 1 and all(isinstance(item, Mapping | tuple) for item in batch):
        alike = len({type(item) for item in batch}) == 1
        if alike and (not all(_is_listing(item) for item in batch) or _is_one_a_sample(batch)):
            return len(batch)
    columns = list(batch.values()) if isinstance(batch, Mapping) else batch
    if not _is_sequence(columns) or not columns or not all(_is_listing(column) for column in columns):
        return None
    lengths = {len(column) for column in columns}
    return lengths.pop() if len(lengths) == 1 else None


def _is_of_pictures(batch: Any) -> bool:
    """Tell whether a batch is a list of pictures and one of their targets, whose boxes may be as many as channels."""
    if not (_is_sequence(batch) and len(batch) == 2 and all(map(_is_sequence, batch))):
        return False
    pictures, targets = batch
    are_pictures = all(isinstance(picture, Tensor) and picture.ndim == 3 for picture in pictures)
    are_targets = all(isinstance(target, Mapping) for target in targets) and _is_one_a_sample(targets)
    return len(pictures) == len(targets) > 0 and are_pictures and are_targets


def _is_one_a_sample(batch: Any) -> bool:
    """Tell whether a list holds a dict of the same keys for each sample, or an (image, target) tuple."""
    if all(isinstance(item, Mapping) for item in batch):
        return len({frozenset(item) for item in batch}) == 1
    # A column holds things of one kind, a sample of several; a tuple may hold columns in tuples: (images, masks), ages.
    if not isinstance(batch, list):
        return False
    kinds = [{(type(part), getattr(part, "ndim", None)) for part in item} for item in batch if isinstance(item, tuple)]
    return len(kinds) == len(batch) and all(len(kind) > 1 for kind in kinds)


def _is_listing(column: Any) -> bool:
    """Tell whether ``column`` is a list of tensors, mappings or plain values, one a sample."""
    return isinstance(column, list | tuple) and not hasattr(column, "_fields") and len(column) > 0


def _is_sequence(batch: Any) -> bool:
    return isinstance(batch, list | tuple)


def _has_namedtuple(batch: Any) -> bool:
    """Tell whether a packed sequence is inside, whose tensors do not have the samples first."""
    if isinstance(batch, torch.nn.utils.rnn.PackedSequence):
        return True
    if isinstance(batch, Mapping):
        return any(_has_namedtuple(item) for item in batch.values())
    return _is_sequence(batch) and any(_has_namedtuple(item) for item in batch)


def _like_mapping(batch: Mapping[Any, Any], change: Callable[[Any], Any]) -> Any:
    items = {key: change(item) for key, item in batch.items()}
    try:
        return type(batch)(items)  # type: ignore[call-arg]  # a mapping that is built from a dict, as most are
    except TypeError:
        return items


def _like_sequence(batch: Any, items: list[Any]) -> Any:
    if hasattr(batch, "_fields"):
        return type(batch)(*items)
    return type(batch)(items)
