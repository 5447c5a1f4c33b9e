"""Which entries of the data set the samples of a batch are: named only if they are known to be the ones."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import ConcatDataset, IterableDataset, Subset

from lightning_debugkit.data.batches import CannotSplit, batch_size, leaves, take
from lightning_debugkit.data.drawing import CannotDraw, drawing
from lightning_debugkit.data.packed_rows import owners, sample
from lightning_debugkit.data.sample_identity import Leaves, are_alike, tells_orders_apart
from lightning_debugkit.data.sample_order import Handed, keeps_order

INDICES = ("index", "idx", "indices", "sample_id", "dataset_index")
_SECONDS = 5.0  # for drawing the samples of a batch again


def entries_of(handed: Handed, batch: Any, samples: Sequence[int], hook: str = "") -> tuple[list[Any], str]:
    """Return the entries of the data set that samples of a loader's batch are, and why there are none.

    Args:
        handed: What the loader has put into the batch.
        batch: Its batch, as the step had it.
        samples: Positions in the batch.
        hook: Of the program's own, which the batch has passed on its way to the step; it may sort, too.
    """
    loader, asked = handed.loader() if handed.loader is not None else None, handed.entries
    dataset = getattr(loader, "dataset", None)
    if loader is None or asked is None:
        return [], _unheard(loader, dataset)
    size = batch_size(batch, len(asked))
    if size is None and (owner := owners(batch, len(asked))) is not None:
        return _packed_again(loader, dataset, asked, [sample(batch, owner, len(asked), at) for at in samples])
    if size is None or max(samples, default=size) >= size:
        return [], "which entries of the dataset they are is not known: the batch cannot be split into samples"
    if size == len(asked) and keeps_order(loader) and not hook:
        return [asked[at] for at in samples], ""
    own = _own(batch, size, asked, dataset)
    if own is not None:
        return [own[at] for at in samples], ""
    return _drawn_again(loader, dataset, asked, batch, samples, size, hook)


def place_below(dataset: Any, entry: Any) -> str:
    """Return which entry of the data below a subset or a chain of data sets an entry is, empty if that is none.

    >>> from torch.utils.data import Dataset
    >>> class Rows(Dataset):
    ...     def __len__(self):
    ...         return 4
    >>> place_below(Subset(Rows(), [3, 1]), 0), place_below(ConcatDataset([Rows(), Subset(Rows(), [2])]), 4)
    ('Rows[3]', 'Rows[2]')
    """
    below, at = _below(dataset, entry)
    return f"{type(below).__name__}[{at}]" if below is not dataset else ""


def _unheard(loader: Any, dataset: Any) -> str:
    if isinstance(dataset, IterableDataset):
        return "which entries of the dataset they are is not known: it is a stream, without indices"
    if loader is not None and dataset is not None and getattr(loader, "batch_sampler", None) is None:
        return "which entries of the dataset they are is not known: its items are whole batches"
    return ""


def _own(batch: Any, size: int, asked: Sequence[Any], dataset: Any) -> list[Any] | None:
    """Return the entries that a batch names itself, ``None`` if what it names was not asked for."""
    places: dict[Any, Any] = {_hashable(_below(dataset, entry)[1]): entry for entry in asked}
    places = {**places, **{_hashable(entry): entry for entry in asked}} if not isinstance(dataset, Subset) else places
    for path, leaf in leaves(batch):
        if path.rpartition(".")[2] in INDICES and isinstance(leaf, Tensor) and leaf.shape == (size,):
            named = leaf.tolist()
            if not leaf.is_floating_point() and all(value in places for value in named):
                return [places[value] for value in named]
    return None


def _drawn_again(
    loader: Any, dataset: Any, asked: Sequence[Any], batch: Any, samples: Sequence[int], size: int, hook: str
) -> tuple[list[Any], str]:
    name = hook or getattr(loader.collate_fn, "__name__", type(loader.collate_fn).__name__)
    why = f"which entries of the dataset they are is not known: {name}() may sort or drop samples"
    try:
        held = [dict(leaves(take(batch, size, [at]))) for at in range(size)]
    except CannotSplit as error:
        return [], f"{why}, and the batch cannot be split ({error})"
    rows = _without_shared(held)
    try:
        again = _draw(dataset, loader.collate_fn, asked)
    except CannotDraw as error:
        return [], f"{why}, and {error}"
    if size == len(asked) and _are_in_order(rows, again):
        return [asked[at] for at in samples], ""
    found = [_only(rows[at], asked, again) for at in samples]
    if hook and None in found:  # it changes numbers, as by scaling them; what is not finite stays so
        found = [_only(_broken(rows[at]), asked, list(map(_broken, again))) for at in samples]
    if None in found:
        return [], f"{why}, and drawn again they are others"
    return [entry for (entry,) in found if found], ""  # type: ignore[misc]  # none of them is None


def _packed_again(loader: Any, dataset: Any, asked: Sequence[Any], rows: list[Leaves]) -> tuple[list[Any], str]:
    try:
        again = _draw(dataset, loader.collate_fn, asked)
    except CannotDraw as error:
        return [], f"which entries of the dataset they are is not known: {error}"
    found = [_only(row, asked, again) for row in rows]
    if None in found:
        return [], "which entries of the dataset they are is not known: drawn again they are others"
    return [each[0] for each in found if each is not None], ""


def _draw(dataset: Any, collate: Callable[[list[Any]], Any], asked: Sequence[Any]) -> list[Leaves]:
    """Return the samples asked for, each collated alone."""
    found: list[Leaves] = []
    began = time.monotonic()
    with drawing([dataset]):
        for entry in asked:
            if time.monotonic() - began > _SECONDS:
                raise CannotDraw("drawing them again takes too long")
            try:
                found.append({path: _on_host(leaf) for path, leaf in leaves(collate([dataset[entry]]))})
            except Exception:  # a sample that cannot be read, or that the collate function leaves out
                found.append({})
    return found


def _are_in_order(rows: Sequence[Leaves], again: Sequence[Leaves]) -> bool:
    alike = [path for path in rows[0] if all(are_alike(path, *pair) for pair in zip(rows, again, strict=True))]
    return any(tells_orders_apart(path, [rows], [again]) for path in alike)


def _only(row: Leaves, asked: Sequence[Any], again: Sequence[Leaves]) -> tuple[Any] | None:
    """Return the only entry that gives this row, all of it; ``None`` if none does, or several."""
    if not row:
        return None
    found = {
        _hashable(entry): entry
        for entry, drawn in zip(asked, again, strict=True)
        if row.keys() <= drawn.keys() and all(are_alike(path, row, drawn) for path in row)
    }
    return (next(iter(found.values())),) if len(found) == 1 else None


def _broken(row: Leaves) -> Leaves:
    """Return where the numbers of a sample are not finite, without the tensors in which all are."""
    floats = {path: leaf for path, leaf in row.items() if isinstance(leaf, Tensor) and leaf.is_floating_point()}
    found = {path: ~torch.isfinite(leaf) for path, leaf in floats.items() if leaf.layout is torch.strided}
    return {path: mask for path, mask in found.items() if mask.any()}


def _without_shared(rows: Sequence[Mapping[str, Any]]) -> list[Leaves]:
    """Leave out what is the same object in every row: it is shared by all samples."""
    shared = {path for path, leaf in rows[0].items() if len(rows) > 1 and leaf is rows[1].get(path)}
    return [{path: _on_host(leaf) for path, leaf in row.items() if path not in shared} for row in rows]


def _on_host(leaf: Any) -> Any:
    return leaf.detach().cpu() if isinstance(leaf, Tensor) else leaf


def _below(dataset: Any, entry: Any) -> tuple[Any, Any]:
    """Return the data set below subsets and chains that an entry is of, and its index there."""
    try:
        if isinstance(dataset, Subset):
            return _below(dataset.dataset, dataset.indices[entry])
        if isinstance(dataset, ConcatDataset):
            at = next(at for at, end in enumerate(dataset.cumulative_sizes) if entry < end)
            return _below(dataset.datasets[at], entry - (dataset.cumulative_sizes[at - 1] if at else 0))
    except (TypeError, IndexError, KeyError, StopIteration):  # keys that are no places
        return dataset, entry
    return dataset, int(entry) if isinstance(entry, torch.Tensor) else entry


def _hashable(entry: Any) -> Any:
    if isinstance(entry, Tensor):
        return entry.item() if entry.numel() == 1 else tuple(entry.tolist())
    return tuple(entry) if isinstance(entry, list) else entry
