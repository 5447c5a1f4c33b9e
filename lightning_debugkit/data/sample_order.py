"""Which dataset entries a training batch was made of, read off the loader's own sampler."""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

from torch.utils.data import DataLoader, IterableDataset, Subset, default_collate, default_convert

from lightning_debugkit.core.compat import Trainer
from lightning_debugkit.core.patching import StandIn
from lightning_debugkit.data.loaders import KitSampler


class AroundSampler(KitSampler):
    """What stands around a batch sampler: in all but its iteration it is the sampler itself."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    @property
    def kit_inner(self) -> Any:
        return self.inner

    def __len__(self) -> int:
        return len(self.inner)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "inner":
            raise AttributeError(name)
        # `sampler` too: it is what Lightning sets the epoch of, and the batch sampler itself is not.
        return getattr(self.inner, name)


def take_out(loader: Any, around: AroundSampler) -> None:
    """Take ``around`` off a loader's batch sampler, whatever else has come to stand around it since."""
    outer = loader.batch_sampler
    if outer is around:
        # DataLoader forbids to set batch_sampler once it is built; its iterators read it all the same.
        object.__setattr__(loader, "batch_sampler", around.inner)
    while isinstance(outer, AroundSampler):
        if outer.inner is around:
            outer.inner = around.inner
        outer = outer.inner


def recorded(sampler: Any, given: deque[list[Any]]) -> Iterator[Any]:
    """Iterate over a batch sampler, and keep what it gives."""
    # Begun here and now, not with the first batch: a sampler may draw its order when it is asked for an iterator,
    # before the loader draws the seed of its workers.
    return _recorded(iter(sampler), given)


def _recorded(batches: Iterator[Any], given: deque[list[Any]]) -> Iterator[Any]:
    for indices in batches:
        entries = list(indices)
        given.append(entries)
        # What can be read but once has been read now.
        yield entries if isinstance(indices, Iterator) else indices


class OrderRecorder(AroundSampler):
    """A batch sampler that keeps what it gave in its last pass until it is asked for."""

    def __init__(self, sampler: Any) -> None:
        super().__init__(sampler)
        self.given: deque[list[Any]] = deque()

    def __iter__(self) -> Iterator[Any]:
        # Of each pass its own: another may still be under way where a loader is trained and validated on.
        self.given = deque()
        return recorded(self.inner, self.given)


class LoaderListener:
    """Records the order of each map-style `DataLoader` from its batch sampler, for as long as the loader is there."""

    def __init__(self, training: bool) -> None:
        self.training = training  # whether to listen to training loaders, not to those of validation and test
        # Nothing of a loader is kept alive: data that are loaded anew every few epochs would pile up.
        self._heard: WeakKeyDictionary[DataLoader[Any], OrderRecorder] = WeakKeyDictionary()
        self._standing: StandIn | None = None

    def install(self, trainer: Trainer) -> None:
        """Listen from before a loader's first iterator is made: workers draw ahead."""
        strategy = trainer.strategy
        process = strategy.process_dataloader

        def processed(dataloader: Any) -> Any:
            dataloader = process(dataloader)
            if trainer.training == self.training and isinstance(dataloader, DataLoader):
                self._listen(dataloader)
            return dataloader

        self._standing = StandIn(strategy, "process_dataloader", processed).stand()

    def remove(self) -> None:
        """Leave strategy and loaders as they were."""
        if self._standing is not None:
            self._standing.leave()
            self._standing = None
        for loader, around in list(self._heard.items()):
            take_out(loader, around)
        self._heard.clear()

    def heard(self, loader: Any) -> OrderRecorder | None:
        """Return the recorder around a loader's batch sampler, ``None`` if there is none."""
        return self._heard.get(loader) if isinstance(loader, DataLoader) else None

    def _listen(self, loader: DataLoader[Any]) -> None:
        if loader.batch_sampler is None or loader in self._heard or isinstance(loader.dataset, IterableDataset):
            return
        self._heard[loader] = OrderRecorder(loader.batch_sampler)
        # Set as in `take_out`.
        object.__setattr__(loader, "batch_sampler", self._heard[loader])

    def __getstate__(self) -> dict[str, Any]:
        return {"training": self.training}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]  # it has no state but its arguments


@dataclass(frozen=True)
class Handed:
    """What a loader has put into the current batch."""

    way: tuple[str, ...]  # the way to its own batch in that of several loaders
    loader: weakref.ref[Any] | None  # the loader, as long as it is there
    entries: list[Any] | None  # what its sampler asked the dataset for, `None` if it has no sampler that can be heard
    batch_size: int | None  # samples of each of its batches, if it says so

    @property
    def size(self) -> int | None:
        """How many samples were asked for."""
        return self.batch_size if self.entries is None else len(self.entries)


class SampleOrder(LoaderListener):
    """Record what each training batch was asked for, without touching data, loader workers or random numbers.

    Known for map-style `DataLoader`s with a batch sampler; anything else has no indices to know.
    """

    def __init__(self, training: bool = True) -> None:
        super().__init__(training)
        self.handed: list[Handed] = []

    @property
    def current(self) -> list[Any] | None:
        """What the only loader was asked for, ``None`` if there are several or it is not known."""
        return self.handed[0].entries if len(self.handed) == 1 else None

    def advance(self, trainer: Trainer) -> None:
        """Take note that the next batch has been handed out."""
        loaders = trainer.train_dataloader
        if isinstance(loaders, DataLoader):  # the usual case, at each step
            found: list[tuple[tuple[str, ...], Any]] = [((), loaders)]
        else:
            found = ways_to(loaders)
        self.handed = [
            Handed(way, _weak(loader), self._next(loader), getattr(loader, "batch_size", None)) for way, loader in found
        ]

    def _next(self, loader: Any) -> list[Any] | None:
        heard = self.heard(loader)
        return heard.given.popleft() if heard is not None and heard.given else None


def keeps_order(loader: Any) -> bool:
    """Tell whether a loader's batches hold the samples asked for, in that order, beyond doubt.

    A collate function of the user's own may sort or drop them, as may a data set that fetches many at once.
    """
    dataset = getattr(loader, "dataset", None)
    while isinstance(dataset, Subset):
        dataset = dataset.dataset
    is_ordered = getattr(loader, "in_order", True) or getattr(loader, "num_workers", 0) < 2
    is_collated = getattr(loader, "collate_fn", None) in (default_collate, default_convert)
    return is_ordered and is_collated and not hasattr(dataset, "__getitems__")


def _weak(loader: Any) -> weakref.ref[Any] | None:
    try:
        return weakref.ref(loader)
    except TypeError:
        return None


def ways_to(loaders: Any, way: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], Any]]:
    """Return each of one or many loaders, however nested, with the way to its own batch in theirs.

    >>> ways_to({"a": "one loader", "b": ["two", "three"]})
    [(('a',), 'one loader'), (('b', '0'), 'two'), (('b', '1'), 'three')]
    """
    if isinstance(loaders, Mapping):
        inside: Any = loaders.items()
    elif isinstance(loaders, list | tuple):
        inside = enumerate(loaders)
    else:
        return [] if loaders is None else [(way, loaders)]
    return [found for key, held in inside for found in ways_to(held, (*way, str(key)))]
