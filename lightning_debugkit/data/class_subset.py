"""A dataset of some classes of another, counted from 0, that says which they were."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from torch.utils.data import ConcatDataset, Dataset, IterableDataset, Subset, TensorDataset

from lightning_debugkit.data.drawing import drawing
from lightning_debugkit.data.label_forms import Key, Label, UnknownForm, key_of, labels_in, labels_of, relabelled

_SPOT_CHECKS = 3


class ClassSubset(Dataset[Any]):
    """The samples of some classes, their labels counted anew from 0 in the order of ``classes``.

    A label may be a number, a tensor, a name, a one-hot vector (its other columns go), the ``labels`` of a picture's
    objects (other objects go, with their boxes and masks) or COCO's list of annotations. Callbacks of the kit carry the
    mapping into checkpoints (``class_mapping``), reports and ``errors.json``; `load_model` gives it back.

    The labels of all samples are read once: of ``targets`` or the like where these agree with the samples, else of
    the samples themselves, which takes as long as an epoch of reading. Random states are put back.

    Args:
        dataset: The dataset to choose from; it has a length and an index.
        classes: Labels to keep, as the dataset has them, or their names where it knows names.
        label: Where in a sample the label lies, such as ``"label"`` or ``1``; by default the last of a tuple, or the
            entry of a mapping that is called label, target, y or the like.

    Raises:
        ValueError: No label can be read, a class is asked for twice, or one has no sample.

    Example:
        >>> import torch
        >>> whole = TensorDataset(torch.arange(6.0), torch.tensor([0, 3, 7, 3, 0, 7]))
        >>> part = ClassSubset(whole, classes=[7, 3])
        >>> len(part), [int(label) for _, label in part], part.class_mapping
        (4, [1, 0, 1, 0], {7: 0, 3: 1})
    """

    def __init__(
        self,
        dataset: Dataset,  # type: ignore[type-arg]  # jsonargparse takes no arguments of a subclass of Dataset[Any]
        classes: Sequence[int | str],
        label: int | str | None = None,
    ) -> None:
        if not hasattr(dataset, "__len__") or isinstance(dataset, IterableDataset):
            kind = type(dataset).__name__
            raise ValueError(
                f"ClassSubset needs a dataset with a length and an index, got {kind}; filter a stream where it is read."
            )
        if isinstance(classes, str) or not classes or len({*classes}) < len(classes):
            raise ValueError(f"ClassSubset needs classes that differ, got {classes!r}; write classes=[3, 5].")
        self.dataset = dataset
        self.classes = classes
        self.label = label
        names = _names(dataset)
        by_name = {name: number for number, name in names.items()}
        chosen: list[Label] = [by_name.get(each, each) if isinstance(each, str) else each for each in classes]
        self.class_mapping: dict[Label, int] = {old: new for new, old in enumerate(chosen)}
        self.class_names = [names.get(old, str(old)) for old in chosen]
        held = _labels(dataset, label)
        self.indices = [at for at, found in enumerate(held) if any(each in self.class_mapping for each in found)]
        missing = {*self.class_mapping} - {each for at in self.indices for each in held[at]}
        if missing:
            raise ValueError(
                f"ClassSubset needs classes that the dataset has, got {sorted(missing, key=str)}, of which it has no "
                f"sample; it has {_shown(held)}."
            )

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Any:
        sample = self.dataset[self.indices[index]]
        key = key_of(sample) if self.label is None else self.label
        return relabelled(sample, key, self.class_mapping)


def _shown(held: list[list[Label]]) -> str:
    known = sorted({each for found in held for each in found}, key=lambda each: (isinstance(each, str), each))
    return ", ".join(map(str, known[:10])) + (", ..." if len(known) > 10 else "")


def _labels(dataset: Any, label: Key | None) -> list[list[Label]]:
    """Return the classes of each sample; of a column of the dataset where it agrees with the samples."""
    count = len(dataset)
    spots = sorted({0, count // 2, count - 1}) if count else []
    with drawing([dataset], is_asked=True):
        try:
            seen = [_of_sample(dataset[at], label) for at in spots[:_SPOT_CHECKS]]
            column = _column(dataset, label)
            if column is not None and len(column) == count:
                with suppress(UnknownForm):
                    held = [labels_in(each) for each in column]
                    if [held[at] for at in spots] == seen:
                        return held
            return [_of_sample(dataset[at], label) for at in range(count)]
        except UnknownForm as error:
            raise ValueError(
                f"ClassSubset needs samples whose label it can read, got {error}; name its place, as in label='label' "
                "or label=1."
            ) from error


def _of_sample(sample: Any, label: Key | None) -> list[Label]:
    key = key_of(sample) if label is None else label
    return labels_of(sample, key)


def _column(dataset: Any, label: Key | None) -> Any:
    """Return the labels of all samples where a dataset keeps them beside its samples, ``None`` if it does not."""
    if isinstance(dataset, TensorDataset):
        return dataset.tensors[-1 if label is None else int(label)]
    if isinstance(dataset, Subset):
        of_all = _column(dataset.dataset, label)
        return None if of_all is None else [of_all[at] for at in dataset.indices]
    if isinstance(dataset, ConcatDataset):
        parts = [_column(part, label) for part in dataset.datasets]
        return None if any(part is None for part in parts) else [each for part in parts for each in part]
    annotations = getattr(getattr(dataset, "coco", None), "imgToAnns", None)
    if annotations is not None and hasattr(dataset, "ids"):
        return [annotations[each] for each in dataset.ids]
    if isinstance(label, str) and label in (getattr(dataset, "column_names", None) or ()):
        return dataset[label]  # of Hugging Face's datasets
    found = getattr(dataset, "targets", None)
    return found if found is not None and hasattr(found, "__len__") else getattr(dataset, "labels", None)


def _names(dataset: Any) -> dict[Label, str]:
    """Return what the classes of a dataset are called, as far as it knows."""
    while dataset is not None:
        categories = getattr(getattr(dataset, "coco", None), "cats", None)
        if isinstance(categories, Mapping):
            return {number: str(each.get("name", number)) for number, each in categories.items()}
        numbers = getattr(dataset, "class_to_idx", None)
        if isinstance(numbers, Mapping):
            return {number: str(name) for name, number in numbers.items()}
        for place in ("class_names", "classes"):
            listed = getattr(dataset, place, None)
            if isinstance(listed, list | tuple) and all(isinstance(name, str) for name in listed):
                return dict(enumerate(listed))
        dataset = getattr(dataset, "dataset", None)
    return {}
