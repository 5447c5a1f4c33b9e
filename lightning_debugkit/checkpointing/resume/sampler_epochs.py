"""Passes over a loader's sampler: with which random state each began, and a checksum of what it gave."""

from __future__ import annotations

import zlib
from array import array
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

from torch.utils.data import DataLoader

from lightning_debugkit.data.loaders import KitSampler, own_sampler
from lightning_debugkit.data.sample_order import OrderRecorder

Back = Callable[[], Any]
_MOST_INDICES = 10_000  # of a batch that is asked for again


class SamplerEpoch:
    """One iteration over a sampler.

    Args:
        began: Moment when the loader was iterated.
        go_back: Goes back to the moment when an earlier pass gave first; a loader without workers asks for its first
            batch later than it is iterated.
        reused: Whether it is given to persistent workers that were there already.
        ahead: How many batches may have been given that are not used yet; their indices are kept.
    """

    def __init__(
        self, sampler: Any, now: Callable[[], Any], began: Any, go_back: Back | None, reused: bool, ahead: int = -1
    ) -> None:
        self._now, self.go_back = now, go_back
        self.began = began
        self.first: Any = None
        self.reused = reused
        self.given = 0
        self.checksum = 0
        self._recent: deque[Any] = deque(maxlen=ahead + 1)
        self._iterator = iter(sampler)

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        if self.first is None:
            if self.go_back is not None:
                self.go_back()
            self.first = self._now()
        indices = next(self._iterator)
        self.given += 1
        self.checksum = checksum_of(indices, self.checksum)
        self._recent.append(indices)
        return indices

    def indices_of(self, batch: int) -> list[Any] | None:
        """Return the indices of a batch of this pass, if they are kept and not many."""
        at = batch - (self.given - len(self._recent))
        found = self._recent[at] if 0 <= at < len(self._recent) else None
        return found if isinstance(found, list) and len(found) <= _MOST_INDICES else None


class SamplerRecorder:
    """Notes each pass over a loader's sampler, from before its first iterator is made.

    Args:
        loader: Loader to watch; its data, workers and random numbers are left alone.
    """

    def __init__(self, loader: DataLoader[Any], now: Callable[[], Any]) -> None:
        self.loader, self.now = loader, now
        self._again: list[tuple[Back, Back]] = []
        self._last: SamplerEpoch | None = None
        self.name = "sampler" if loader.batch_sampler is None else "batch_sampler"
        self.sampler = getattr(loader, self.name)
        is_asked = loader.persistent_workers and loader.batch_sampler is not None
        self._ahead = loader.num_workers * int(loader.prefetch_factor or 0) if is_asked else -1
        # DataLoader forbids to set its samplers once it is built; its iterators read them all the same.
        object.__setattr__(loader, self.name, RecordedSampler(self))

    def play(self, again: list[tuple[Back, Back]]) -> None:
        """Let the next passes begin, and first give, at these moments."""
        self._again, self._last = again, None

    def begin(self) -> SamplerEpoch:
        """Return a new pass."""
        last = self._last
        if last is not None and last.first is None:
            # A loader with workers asks for two passes, draws a seed between them, and uses the second.
            began, go_back = last.began, last.go_back
        else:
            go_begin, go_back = self._again.pop(0) if self._again else (None, None)
            if go_begin is not None:
                go_begin()
            began = self.now()
        # Persistent workers that are there already go on, and no seed is drawn for them.
        reused = self.loader.persistent_workers and getattr(self.loader, "_iterator", None) is not None
        self._last = SamplerEpoch(self.sampler, self.now, began, go_back, reused, self._ahead)
        return self._last

    def remove(self) -> None:
        """Leave the loader as it was."""
        if recorder_of(self.loader) is self:
            object.__setattr__(self.loader, self.name, self.sampler)


class RecordedSampler(KitSampler):
    """A sampler under watch: in all else it is the sampler itself, its class, attributes and pickle included."""

    __slots__ = ("__watch", "__weakref__")
    # For isinstance.
    __class__ = property(lambda self: type(own_sampler(self)))

    def __init__(self, watch: SamplerRecorder) -> None:
        object.__setattr__(self, "_RecordedSampler__watch", watch)

    @property
    def kit_inner(self) -> Any:
        return self.__watch.sampler

    def __iter__(self) -> SamplerEpoch:
        begun: SamplerEpoch = self.__watch.begin()
        return begun

    def __len__(self) -> int:
        return len(self.__watch.sampler)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__watch.sampler, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self.__watch.sampler, name, value)

    def __reduce_ex__(self, protocol: Any) -> Any:
        return _same, (self.__watch.sampler,)


def recorder_of(loader: Any) -> SamplerRecorder | None:
    """Return the watch on a loader, if there is one."""
    found = [getattr(loader, name, None) for name in ("batch_sampler", "sampler")]
    return next((sampler._RecordedSampler__watch for sampler in found if type(sampler) is RecordedSampler), None)


def recorders(sampler: Any) -> Iterator[OrderRecorder]:
    """Yield the kit's recorders of sample indices around a sampler."""
    while issubclass(type(sampler), KitSampler):
        if type(sampler) is OrderRecorder:
            yield sampler
        sampler = sampler.kit_inner


def _same(sampler: Any) -> Any:
    return sampler


def checksum_of(indices: Any, before: int = 0) -> int:
    """Return the CRC-32 of indices, or of whatever keys a sampler gives, after ``before``."""
    try:
        return zlib.crc32(array("q", indices).tobytes(), before)
    except (TypeError, OverflowError):  # keys that are no whole numbers
        return zlib.crc32(repr(indices).encode("utf-8", "backslashreplace"), before)
