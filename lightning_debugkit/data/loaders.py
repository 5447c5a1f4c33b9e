"""What loaders, samplers and datasets are made of, and which samples of an evaluation batch count."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, DistributedSampler

from lightning_debugkit.core.compat import (
    LightningDataModule,
    LightningModule,
    Trainer,
    datamodule_of,
    overrides,
    tree_leaves,
)
from lightning_debugkit.core.run import batch_size_of

_DEEP = 4  # datasets within datasets
_TRANSFER = ("on_before_batch_transfer", "transfer_batch_to_device", "on_after_batch_transfer")
_SAMPLERS = 6  # samplers within one another


class KitSampler:
    """What the kit puts around a user's sampler, to hear or choose what it gives."""

    __slots__ = ()

    @property
    def kit_inner(self) -> Any:
        """What it stands around."""
        raise NotImplementedError(f"{type(self).__name__} does not say what it stands around")


def own_sampler(sampler: Any) -> Any:
    """Return a sampler without what the kit has put around it."""
    while issubclass(type(sampler), KitSampler):  # isinstance would ask a class that is not told
        sampler = sampler.kit_inner
    return sampler


def samplers_of(loader: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the user's samplers of a loader by their path, the outer ones first.

    One within another is followed if it is named ``sampler``, or if it shuffles by epochs.
    """
    seen: set[int] = set()
    waiting = [(f"{path}.{key}", getattr(loader, key, None)) for key in ("batch_sampler", "sampler")]
    while waiting and len(seen) < _SAMPLERS:
        path, sampler = waiting.pop(0)
        sampler = own_sampler(sampler)
        if not hasattr(sampler, "__dict__") or id(sampler) in seen:
            continue
        seen.add(id(sampler))
        yield path, sampler
        held = vars(sampler)
        waiting += [
            (f"{path}.{key}", value)
            for key, value in held.items()
            if key == "sampler" or (hasattr(type(value), "set_epoch") and not isinstance(value, Dataset))
        ]


def loaders_of(loaders: Any) -> list[Any]:
    """Return one or many loaders, however nested, as a list."""
    return [] if loaders is None else list(tree_leaves(loaders))


def loaders_given(trainer: Trainer, is_test: bool) -> Any:
    """Return the loaders that a test, or else a validation, goes through, as they were given."""
    return trainer.test_dataloaders if is_test else trainer.val_dataloaders


def loaders_of_pass(trainer: Trainer, is_test: bool) -> list[Any]:
    """Return the same as a list."""
    return loaders_of(loaders_given(trainer, is_test))


def transfer_hook(trainer: Trainer) -> str:
    """Return the program's own hook that a batch passes between its loader and the step, empty if there is none."""
    owners = ((trainer.lightning_module, LightningModule), (datamodule_of(trainer), LightningDataModule))
    found = (name for one, kind in owners if one is not None for name in _TRANSFER if overrides(one, name, kind))
    return next(found, "")


def is_at_once(trainer: Trainer) -> bool:
    """Tell whether a batch of the evaluation under way holds one of each loader: they are read at once, not in turn."""
    # Private since 2.0: the mode of a CombinedLoader shows nowhere else.
    loop = getattr(trainer, "_evaluation_loop", None) if trainer.state.fn is not None else None
    mode = getattr(getattr(loop, "_combined_loader", None), "_mode", "sequential")
    return mode != "sequential"


def datasets_of(loader: Any) -> Iterator[Any]:
    """Yield the dataset of a loader, and what it is a part of, from the outside inwards; of a sum the first part."""
    dataset = attribute(loader, "dataset")
    for _ in range(_DEEP):
        if dataset is None:
            return
        yield dataset
        parts = attribute(dataset, "datasets")
        dataset = parts[0] if isinstance(parts, list) and parts else attribute(dataset, "dataset")


def attribute(holder: Any, name: str) -> Any:
    """Return the user's own attribute, ``None`` if there is none; a property may raise whatever it likes."""
    with suppress(Exception):
        return getattr(holder, name, None)
    return None


def class_mapping(trainer: Trainer) -> dict[str, list[Any]]:
    """Return what a `ClassSubset` among the data keeps: ``labels`` and ``names`` by new number; empty without one."""
    for loaders in (trainer.train_dataloader, trainer.val_dataloaders, trainer.test_dataloaders):
        for loader in loaders_of(loaders):
            for dataset in datasets_of(loader):
                kept, names = attribute(dataset, "class_mapping"), attribute(dataset, "class_names")
                if isinstance(kept, dict) and kept and isinstance(names, list):
                    return {"labels": list(kept), "names": names}
    return {}


def length_of_loader(dataset: Any) -> int:
    """Return how many samples a data set has, 0 if it does not say."""
    try:
        return len(dataset)
    except Exception:  # whatever the user's own raises where it has none
        return 0


def begins(loaders: Sequence[Any], at: int) -> int:
    """Return where the data of a loader begin when all are counted through, as ConcatDataset does."""
    return sum(length_of_loader(getattr(loader, "dataset", None)) for loader in loaders[:at])


def positions(loader: Any, batch_idx: int, rows: int) -> Tensor | None:
    """Return the place of each row in the order of all ranks, ``None`` where it cannot be told.

    The places of repeated samples lie beyond the end of the data set: PyTorch appends them.
    """
    size = loader.batch_size if isinstance(loader, DataLoader) else None
    if size is None:
        return None
    local = batch_idx * size + torch.arange(rows)
    sampler = loader.sampler
    return sampler.rank + sampler.num_replicas * local if isinstance(sampler, DistributedSampler) else local


def counted(loader: Any, places: Tensor | None) -> Tensor | None:
    """Return which rows are no repetitions, ``None`` if all count."""
    sampler = loader.sampler if isinstance(loader, DataLoader) else None
    if places is None or not isinstance(sampler, DistributedSampler) or sampler.drop_last:
        return None
    length = len(sampler.dataset)  # type: ignore[arg-type]  # a distributed sampler needs it, too
    return torch.lt(places, length)


def has_persistent_workers(loader: Any) -> bool:
    """Tell whether the workers of a loader outlive its passes."""
    return bool(getattr(loader, "persistent_workers", False))


def last_batch(trainer: Trainer) -> tuple[int, int]:
    """Return how many samples the last batch of an epoch holds, 0 if that is not known, and how many batches it has."""
    loader, size = trainer.train_dataloader, batch_size_of(trainer.train_dataloader)
    batches = trainer.num_training_batches
    if type(loader) is not DataLoader or not size or loader.drop_last or not math.isfinite(batches):
        return 0, 0
    try:
        rest = len(loader.sampler) % size  # type: ignore[arg-type]  # one without a length raises
        is_whole = batches == len(loader) and trainer.estimated_stepping_batches >= batches
    except Exception:  # whatever the user's own raises where it has no length
        return 0, 0
    return (rest, int(batches)) if is_whole else (0, 0)
