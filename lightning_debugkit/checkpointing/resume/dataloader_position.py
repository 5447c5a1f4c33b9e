"""Where a fit is in its training loaders: watched while it goes on, and set again when it resumes."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from torch.utils.data import DataLoader, IterableDataset, Subset

from lightning_debugkit.checkpointing.resume.owned_generators import Owned
from lightning_debugkit.checkpointing.resume.rng_state import RngState
from lightning_debugkit.checkpointing.resume.sampler_epochs import (
    SamplerEpoch,
    SamplerRecorder,
    checksum_of,
    recorder_of,
    recorders,
)
from lightning_debugkit.checkpointing.resume.stopped import StopWatch
from lightning_debugkit.checkpointing.resume.stream_attributes import StreamAttributes
from lightning_debugkit.checkpointing.resume.streams import Fetches
from lightning_debugkit.core.compat import LightningModule, Trainer
from lightning_debugkit.core.patching import StandIn
from lightning_debugkit.data.loaders import has_persistent_workers, own_sampler

# A loader that is cycled through more often than this in one epoch is not followed.
_MOST_PASSES = 32


class DataLoaderPosition:
    """Watches the training loaders of a fit."""

    def __init__(
        self, trainer: Trainer, module: LightningModule, trouble: Callable[[str, BaseException], None]
    ) -> None:
        self.trainer, self.module, self.trouble = trainer, module, trouble
        self.owned = Owned(self._roots)
        self._watches: list[SamplerRecorder] = []
        self._passes: list[list[SamplerEpoch]] = []  # this epoch's passes over each loader
        self.fetches: Fetches | None = None  # of loaders whose indices are not known, or do not tell what is drawn
        self.stops = StopWatch(trainer, lambda: self._guarded(self.now))
        self.attributes = StreamAttributes(self._streams)
        self._began: RngState | None = None  # before this epoch's pass over loaders whose indices are not known
        self.ended: tuple[RngState, list[Any]] | None = None  # when the fit was over, and its loaders still there
        self._standing: list[StandIn] = []

    def install(self) -> None:
        """Watch each training loader from before its first iterator is made.

        It may be made long before the training: `configure_optimizers` that reads the number of steps sets them up.
        """
        fit = self.trainer.fit_loop
        # Between what others put around the samplers and the first iterator.
        load = fit._load_combined_loader_states

        def loaded() -> None:
            load()
            for loader in self.loaders():
                self._guarded(self.watch, loader)
            self._guarded(self._begin, self.attributes.meet)

        start = fit.on_advance_start

        def started() -> None:
            start()
            # The loaders are iterated next, but for the first epoch's: they were as soon as they had been set up.
            if fit.epoch_loop.total_batch_idx >= 0:
                self._guarded(self._begin, self.attributes.begin)

        self._standing = [
            StandIn(fit, "_load_combined_loader_states", loaded).stand(),
            StandIn(fit, "on_advance_start", started).stand(),
        ]
        self.stops.install()

    def start(self) -> None:
        """Note what each batch comes from: to be called when the loaders are there, before the first is used."""
        loaders = self.loaders()
        for loader in loaders:
            self.watch(loader)
        unknown = [loader for loader in loaders if not is_indexed(loader) or has_persistent_workers(loader)]
        if unknown and self.fetches is None:
            draw = any(not getattr(loader, "num_workers", 0) for loader in unknown)
            now = functools.partial(self._guarded, self.now)
            self.fetches = Fetches(self.trainer, now, all(is_stateful(loader) for loader in loaders), draw)
            self.fetches.install(self._guarded)

    def remove(self) -> None:
        """Leave loop and loaders as they were; what was noted may still be saved."""
        for each in self._standing:
            each.leave()
        self._standing = []
        self.stops.remove()
        if self.fetches is not None:
            self.fetches.remove()
        for watch in self._watches:
            watch.remove()
        self._watches = []

    def watch(self, loader: Any) -> None:
        """Watch one loader, unless it knows its place itself."""
        if isinstance(loader, DataLoader) and not is_stateful(loader) and recorder_of(loader) is None:
            self.owned.meet(loader)
            self._watches.append(SamplerRecorder(loader, lambda: self._guarded(self.now)))

    def now(self) -> RngState:
        """Return the moment of now."""
        return RngState.now(self.owned)

    def loaders(self) -> list[Any]:
        """Return the training loaders; none before they are set up."""
        combined = self.trainer.fit_loop._combined_loader
        return [] if combined is None else list(combined.flattened)

    def end(self) -> None:
        """Note where the fit ends: the run that goes on has neither the hooks nor the saves that come after it."""
        self.ended = self.now(), self.places()

    def places(self) -> list[Any]:
        """Return the places that loaders keep themselves, where all do."""
        return self.fetches.places() if self.fetches is not None and self.fetches.keep else []

    def batches_under_way(self) -> int:
        """Return how many batches of an epoch that is not over were used, in the state of the loops of now."""
        loop = self.trainer.fit_loop.epoch_loop
        return 0 if loop._num_ready_batches_reached() else int(loop.batch_progress.current.ready)

    def validation_loaders(self) -> list[Any]:
        """Return the loaders of the validation within fit; none before they are set up."""
        combined = self.trainer.fit_loop.epoch_loop.val_loop._combined_loader
        return [] if combined is None else list(combined.flattened)

    def note(self, first: bool) -> None:
        """Take note of the passes that the batch just fetched came from."""
        current = self.current()
        if first or len(self._passes) != len(current):
            self._passes = [[] for _ in current]
        for passes, now in zip(self._passes, current, strict=True):
            if now is not None and (not passes or passes[-1] is not now) and len(passes) <= _MOST_PASSES:
                passes.append(now)

    def current(self) -> list[SamplerEpoch | None]:
        """Return the pass that each training loader is in, as far as it is watched."""
        fetcher = self.trainer.fit_loop._data_fetcher
        iterator = None if fetcher is None else getattr(fetcher.combined_loader, "_iterator", None)
        inner = (getattr(part, "_sampler_iter", None) for part in getattr(iterator, "iterators", ()))
        return [part if isinstance(part, SamplerEpoch) else None for part in inner]

    def state(self, under_way: bool, used: int) -> list[dict[str, Any]]:
        """Return what is needed to come here again, for each loader, in plain types.

        Between epochs that is nothing, but of persistent workers the indices of the last of ``used`` batches.
        """
        passes = self._passes if len(self._passes) == len(self.loaders()) else [[] for _ in self.loaders()]
        if not under_way:
            lasts = [self._last(loader, each, used) for loader, each in zip(self.loaders(), passes, strict=True)]
            return [{} if last is None else {"last": list(last)} for last in lasts]
        return [
            {
                "passes": _moments(each),
                "reused": bool(each) and each[-1].reused,
                "given": each[-1].given if each else 0,
                "checksum": each[-1].checksum if each else 0,
            }
            for loader, each in zip(self.loaders(), passes, strict=True)
        ]

    def _last(self, loader: Any, passes: list[SamplerEpoch], used: int) -> list[Any] | None:
        """Return the indices of the last of ``used`` batches of the epoch; a shorter loader may have begun again."""
        if not passes or not used or not is_indexed(loader):
            return None
        if len(self.loaders()) == 1:
            return passes[-1].indices_of(used - 1)
        if self.trainer.num_training_batches == float("inf"):
            return None  # beside a stream Lightning fetches one batch ahead
        try:
            return passes[-1].indices_of((used - 1) % len(loader))
        except TypeError:  # its sampler has no length
            return None

    def stream_state(self, under_way: bool) -> dict[str, Any]:
        """Return where the streams are between epochs, or where they were when the epoch's pass began."""
        if all(map(is_indexed, self.loaders())):
            return {}
        return {"attributes": self.attributes.state(under_way), "began": self._began if under_way else None}

    def set_streams(self, saved: dict[str, Any]) -> tuple[list[str], list[str]]:
        """Set the streams where they were, to be iterated next; return what `StreamAttributes.restore` does."""
        if not saved:
            return [], []
        found = self.attributes.restore(saved["attributes"])
        if saved["began"] is not None:
            self._began = RngState.of(saved["began"])
            self._began.restore(self.owned)
        return found

    def _begin(self, note: Callable[[], None]) -> None:
        if not all(map(is_indexed, self.loaders())):
            note()
            self._began = self.now()

    def _streams(self) -> dict[str, Any]:
        """Return the loaders that are neither indexed nor keep their place themselves."""
        return {
            f"train.{index}": loader
            for index, loader in enumerate(self.loaders())
            if not is_indexed(loader) and not is_stateful(loader)
        }

    def play_fetches(self, saved: dict[str, Any] | None, offset: int = 0) -> None:
        """Let the fetches of the last batches begin as the saved ones did; the next one is ``offset`` of the epoch."""
        if self.fetches is not None and saved:
            self.fetches.play({index: self._back(moment) for index, moment in saved["moments"]}, offset)

    def play(self, saved: list[dict[str, Any]]) -> None:
        """Let the next passes over each loader begin as the saved ones did."""
        for loader, state in zip(self.loaders(), saved, strict=True):
            watch = recorder_of(loader)
            if watch is not None:
                watch.play([(self._back(one["began"]), self._back(one["first"])) for one in state["passes"]])

    def played(self, batches: int) -> None:
        """From here on new passes are new; other watchers of the sampler forget what was passed over."""
        if self.fetches is not None:
            self.fetches.play({})
        for loader in self.loaders():
            watch = recorder_of(loader)
            if watch is not None:
                watch.play([])
                for recorder in recorders(getattr(loader, watch.name)):
                    for _ in range(min(batches, len(recorder.given))):
                        recorder.given.popleft()

    def _back(self, moment: dict[str, Any]) -> Callable[[], Any]:
        return lambda: self._guarded(lambda: RngState.of(moment).restore(self.owned))

    def _guarded(self, ours: Callable[..., Any], *args: Any) -> Any:
        """Loaders call us: what fails in the kit must not fail in them."""
        try:
            return ours(*args)
        except Exception as error:
            self.trouble("dataloader", error)
            return None

    def _roots(self) -> dict[str, Any]:
        roots = {"model": self.module}
        roots |= {f"train.{index}": loader for index, loader in enumerate(self.loaders())}
        return roots | {f"val.{index}": loader for index, loader in enumerate(self.validation_loaders())}


def is_stateful(loader: Any) -> bool:
    """Tell whether the loader keeps its place itself, by the protocol that Lightning saves and loads."""
    return callable(getattr(loader, "state_dict", None)) and callable(getattr(loader, "load_state_dict", None))


def is_indexed(loader: Any) -> bool:
    """Tell whether the indices of the loader's batches are known: it is torch's, over a map-style dataset."""
    watched = (
        isinstance(loader, DataLoader) and not is_stateful(loader) and type(loader).__iter__ is DataLoader.__iter__
    )
    # An empty list is a loader, too: it gives nothing.
    return (watched and not isinstance(loader.dataset, IterableDataset)) or isinstance(loader, list | tuple)


def about(loader: Any) -> dict[str, Any]:
    """Return what a loader is made of, as far as it decides which batches it gives."""
    dataset = getattr(loader, "dataset", None)
    samplers = [own_sampler(getattr(loader, name, None)) for name in ("batch_sampler", "sampler")]
    sampler = next((sampler for sampler in samplers if sampler is not None), None)
    try:
        samples = len(dataset)  # type: ignore[arg-type]  # sized, or the except
    except (TypeError, NotImplementedError):
        samples = None
    return {
        "batch_size": getattr(loader, "batch_size", None),
        "num_workers": getattr(loader, "num_workers", 0),
        "number of samples": samples,
        "selection of samples": _selection(dataset),
        "sampler": type(getattr(sampler, "sampler", sampler)).__name__,
    }


def _moments(passes: list[SamplerEpoch]) -> list[dict[str, Any]]:
    """Return when each pass began and first gave; nothing if one is not known or they are too many."""
    known = all(one.began is not None and one.first is not None for one in passes)
    return [{"began": one.began, "first": one.first} for one in passes] if known and len(passes) <= _MOST_PASSES else []


def _selection(dataset: Any) -> int | None:
    """Return a checksum of the entries that a `Subset` selects, as `random_split` makes it."""
    checksum = None
    while isinstance(dataset, Subset):
        checksum = checksum_of(dataset.indices, checksum or 0)
        dataset = dataset.dataset
    return checksum
