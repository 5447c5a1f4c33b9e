"""The label of a sample in whatever form it has: read, and counted anew for some classes alone."""

from __future__ import annotations

import copy
import sys
from collections.abc import Collection, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

NAMES = ("label", "labels", "y", "target", "targets", "class", "classes")  # what labels are called in a batch
KEYS = (*NAMES, "category_id")  # and in a sample
Label: TypeAlias = int | str
Key: TypeAlias = int | str


class UnknownForm(ValueError):
    """No label can be read; the message says what there is in its place."""


def are_classes(labels: NDArray[np.int64], ignored: Collection[int] = ()) -> NDArray[np.bool_]:
    """Tell which labels ``(n,)`` name a class: not those that the loss ignores, nor, beside two classes, those below 0.

    >>> are_classes(np.array([2, -1, 0, 255]), {255}).tolist(), are_classes(np.array([1, -1])).tolist()
    ([True, False, True, False], [True, True])
    """
    named = ~np.isin(labels, list(ignored))
    above = named & (labels >= 0)
    return above if len(np.unique(labels[above])) > 1 else named


def key_of(sample: Any) -> Key:
    """Return where the label of a sample lies: the last of a tuple, or the entry of a mapping that is called so.

    Raises:
        UnknownForm: There is no such place.
    """
    if isinstance(sample, Mapping):
        named = [key for key in sample if str(key).lower() in KEYS]
        if len(named) == 1:
            return str(named[0])
        raise UnknownForm(f"a mapping of {', '.join(map(str, sample))}")
    if isinstance(sample, tuple | list) and len(sample) > 1:
        return len(sample) - 1
    raise UnknownForm(f"a {type(sample).__name__}")


def labels_in(value: Any) -> list[Label]:
    """Return the classes that a label names: one, those of a one-hot vector, or those of all objects of a picture.

    Raises:
        UnknownForm: It is no label that is known.

    >>> labels_in(3), labels_in(torch.tensor([0, 1, 0])), labels_in([{"category_id": 17}, {"category_id": 90}])
    ([3], [1], [17, 90])
    """
    if isinstance(value, Mapping):
        return [*map(_plain, value[key_of(value)])]
    if _are_annotations(value):
        return [int(each["category_id"]) for each in value]
    if _is_single(value):
        return [_plain(value)]
    return [*np.flatnonzero(_columns(value)).tolist()]


def counted_anew(value: Any, mapping: Mapping[Label, int]) -> Any:
    """Return a label, in the form that it has, with the classes of ``mapping`` alone, by their new numbers.

    Raises:
        UnknownForm: It is no label that is known.

    >>> counted_anew(torch.tensor(7), {3: 0, 7: 1}), counted_anew([0.0, 1.0, 0.0, 0.0], {1: 0, 3: 1})
    (tensor(1), [1.0, 0.0])
    """
    if isinstance(value, Mapping):
        return _objects(value, mapping)
    if _are_annotations(value):
        return [
            {**each, "category_id": mapping[each["category_id"]]} for each in value if each["category_id"] in mapping
        ]
    if _is_single(value):
        return _like(value, mapping[_plain(value)])
    _columns(value)  # which refuses what is none
    return _chosen(value, [int(old) for old in mapping])


def labels_of(sample: Any, key: Key) -> list[Label]:
    """Return the classes that the label of a sample names; ``key`` says where it lies."""
    return labels_in(sample if _is_picture(sample, key) else sample[key])


def relabelled(sample: Any, key: Key, mapping: Mapping[Label, int]) -> Any:
    """Return a sample with its label counted anew; the sample itself is left as it is."""
    if _is_picture(sample, key):
        return _objects(sample, mapping)
    label = counted_anew(sample[key], mapping)
    if isinstance(sample, Mapping):
        changed: Any = copy.copy(sample)
        changed[key] = label
        return changed
    parts = [*sample]
    parts[int(key)] = label
    return type(sample)(*parts) if hasattr(sample, "_fields") else type(sample)(parts)


def _is_picture(sample: Any, key: Key) -> bool:
    """Tell whether a sample has its objects beside its picture, in columns as long as its label."""
    return isinstance(sample, Mapping) and "boxes" in sample and not _is_single(sample[key])


def _objects(target: Mapping[str, Any], mapping: Mapping[Label, int]) -> dict[str, Any]:
    """Return the target of a picture with the objects of these classes alone, and what goes with them: boxes, masks."""
    key = key_of(target)
    held = target[str(key)]
    kept = [place for place, each in enumerate(map(_plain, held)) if each in mapping]
    changed = {
        name: _chosen(part, kept) if _is_column(part, len(held)) and name != "size" else part
        for name, part in target.items()
    }
    numbers = [mapping[_plain(held[place])] for place in kept]
    if isinstance(held, Tensor):
        return {**changed, str(key): torch.tensor(numbers, dtype=held.dtype, device=held.device)}
    return {**changed, str(key): np.array(numbers, dtype=held.dtype) if isinstance(held, np.ndarray) else numbers}


def _is_column(part: Any, count: int) -> bool:
    if isinstance(part, Tensor | np.ndarray):
        return bool(part.ndim) and len(part) == count
    return isinstance(part, list | tuple) and len(part) == count


def _chosen(part: Any, places: list[int]) -> Any:
    if isinstance(part, list | tuple):
        return type(part)(part[place] for place in places)
    found = part[places]
    if isinstance(part, Tensor) and type(part) is not Tensor and "torchvision.tv_tensors" in sys.modules:
        return sys.modules["torchvision.tv_tensors"].wrap(found, like=part)  # boxes keep their format
    return found


def _are_annotations(value: Any) -> bool:
    """Tell whether these are the objects of a picture as COCO writes them."""
    return isinstance(value, list) and all(isinstance(each, Mapping) and "category_id" in each for each in value)


def _is_single(value: Any) -> bool:
    if isinstance(value, Tensor | np.ndarray):
        return value.ndim == 0 or value.shape == (1,)
    return isinstance(value, str | int | float | np.integer | np.floating)


def _plain(value: Any) -> Label:
    if isinstance(value, str):
        return value
    number = float(value)
    if not number.is_integer():
        raise UnknownForm(f"the number {number:g}")
    return int(number)


def _columns(value: Any) -> np.ndarray[Any, Any]:
    """Return a vector of 0 and 1 with an entry for each class."""
    if isinstance(value, Tensor | np.ndarray | Sequence):
        with_numbers = np.asarray(value)
        if with_numbers.ndim == 1 and len(with_numbers) > 1 and np.isin(with_numbers, (0, 1)).all():
            return with_numbers
        raise UnknownForm(f"an array of shape {with_numbers.shape} that is not of 0 and 1")
    raise UnknownForm(f"a {type(value).__name__}")


def _like(value: Any, number: int) -> Any:
    if isinstance(value, Tensor):
        return torch.full_like(value, number)
    if isinstance(value, np.ndarray):
        return np.full_like(value, number)
    return number if isinstance(value, str | bool) else type(value)(number)
