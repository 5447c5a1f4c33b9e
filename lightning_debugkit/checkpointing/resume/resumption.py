"""Go on from a checkpoint as if the run had never stopped."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from lightning_debugkit.checkpointing.resume import averaging, inexact_causes, plateaus
from lightning_debugkit.checkpointing.resume.dataloader_position import DataLoaderPosition, is_indexed, is_stateful
from lightning_debugkit.checkpointing.resume.fingerprints import fingerprint
from lightning_debugkit.checkpointing.resume.inexact_causes import InexactCause
from lightning_debugkit.checkpointing.resume.rng_state import RngState
from lightning_debugkit.checkpointing.resume.sampler_epochs import recorder_of
from lightning_debugkit.checkpointing.resume.worker_passes import ask_worker, begin_workers, start_workers
from lightning_debugkit.core.compat import (
    LightningModule,
    Trainer,
    _DataLoaderIterDataFetcher,
    both_packages,
    overrides,
)
from lightning_debugkit.core.patching import StandIn
from lightning_debugkit.data.loaders import has_persistent_workers

# Batches that are pulled again between epochs, where a loader's own state is of before the last of them.
_FEW = 3


class Resumption:
    """Sets the random states and the place in the loaders, once, between ``on_train_start`` and the first batch.

    Random states are set when every ``on_train_start`` is over: the run that goes on has none here. The loaders are
    iterated anew when the epoch loop begins: Lightning began to do so earlier, with other random states.

    Args:
        saved: This rank's state in the checkpoint.
        rewind: Whether to pull the batches again that were used in the epoch.
        stopped: Whether the saved run was stopped within the epoch.
        tell: Takes all causes why the resume is not exact, and the number of batches used in the epoch.
        go_on: Sets what the program had changed in itself.
    """

    def __init__(
        self,
        place: DataLoaderPosition,
        saved: dict[str, Any],
        rewind: bool,
        stopped: bool,
        tell: Callable[[list[InexactCause], int], None],
        go_on: Callable[[], None],
        trouble: Callable[[str, BaseException], None],
    ) -> None:
        self.place, self.saved, self.rewind, self.stopped = place, saved, rewind, stopped
        self.tell, self.go_on, self.trouble = tell, go_on, trouble
        self.causes: list[InexactCause] = []
        self._before: RngState | None = None
        self._states: list[Any] = []
        self._last: Any = None
        self._takes_up = False
        self._behind = -1  # batches of the whole fit when the place was set
        self._standing: list[StandIn] = []

    def arm(self, trainer: Trainer, module: LightningModule) -> None:
        """Prepare: to be called in ``on_train_start``."""
        fit = trainer.fit_loop
        if (self.stopped or (self.saved["epoch_ended"] and fit.restarting)) and overrides(module, "on_train_epoch_end"):
            self.causes.append(inexact_causes.HOOKS_AGAIN)
        if left := fit._combined_loader_states_to_load:
            # Lightning loads them when it sets up the loaders: that was before the checkpoint was read.
            fit._combined_loader_states_to_load = []
            self._states = left if fit.restarting else []
        self._start_validation_workers()
        self.causes += plateaus.step_waiting(trainer, module, self.saved["plateau"])
        averaging.begin(trainer, module)
        fit._last_train_dl_reload_epoch = self.saved["reloaded"]
        self._once(fit, "on_advance_start", self._set_random_states, lambda *args: None)
        self._once(fit, "on_advance_start", self.go_on, lambda *args: None)
        self._once(fit.epoch_loop, "on_run_start", self._keep_moment, self._set_place)
        self._once(fit.epoch_loop.val_loop, "reset", self._keep_moment, self._undraw)

    def end_epoch(self, module: LightningModule) -> list[InexactCause]:
        """End an epoch as the saved run did; return what is not as it was there."""
        within = not (self.saved["epoch_ended"] or self.saved["plateau"])
        return self._end_loaders() + (plateaus.let_step(self.place.trainer, module) if within else [])

    def _end_loaders(self) -> list[InexactCause]:
        """Let loaders that keep their place themselves know that the epoch is over; return why it was not whole."""
        fetcher = self.place.trainer.fit_loop._data_fetcher
        if fetcher is None or fetcher.length is None or not all(is_stateful(one) for one in self.place.loaders()):
            return []
        if fetcher.done and fetcher.fetched < fetcher.length:
            return [inexact_causes.SHORT.filled(batches=fetcher.fetched, length=fetcher.length)]
        self._tell_end(fetcher)
        return []

    def _tell_end(self, fetcher: Any) -> None:
        whole = fetcher.length is not None and self.place.trainer.limit_train_batches == 1.0
        if self._takes_up and whole and fetcher.iterator is not None:
            # Lightning counts, and leaves the iterator before its end; litdata's loader forgets only there that it
            # was set, and would begin the next epoch in the same place again.
            with self._put_back():
                next(fetcher.iterator, None)
        self._takes_up = False

    def release(self) -> None:
        """Leave the loops as they were, if the fit ended before they began."""
        for each in self._standing:
            each.leave()
        self._standing = []

    @property
    def _loop(self) -> Any:
        return self.place.trainer.fit_loop.epoch_loop

    def _once(self, owner: Any, name: str, before: Callable[[], None], after: Callable[..., None]) -> None:
        """Let the next call of a loop's method be preceded and followed by ours; what fails in ours is told."""
        method = getattr(owner, name)

        def called(*args: Any) -> None:
            standing.leave()
            self._guarded(name, before)
            method(*args)
            self._guarded(name, after, *args)

        standing = StandIn(owner, name, called).stand()
        self._standing.append(standing)

    def _guarded(self, name: str, ours: Callable[..., None], *args: Any) -> None:
        try:
            ours(*args)
        except Exception as error:
            self.trouble(name, error)

    def _set_random_states(self) -> None:
        if missing := RngState.of(self.saved["now"]).restore(self.place.owned):
            self.causes.append(inexact_causes.GENERATORS.filled(names=", ".join(sorted(missing))))
        streams = self.saved.get("streams")
        if streams and streams["began"] is None:
            self._set_streams(streams)

    def _set_streams(self, streams: dict[str, Any]) -> None:
        """Set the streams where they were between epochs: hooks of the epoch's start may tell them its number next."""
        left, suspended = self.place.set_streams(streams)
        used = self.place.trainer.fit_loop.total_batch_idx + 1
        if suspended:
            self.causes.append(inexact_causes.GOES_ON.filled(names=", ".join(suspended), batches=used))
        if left:
            self.causes.append(inexact_causes.ATTRIBUTES.filled(names=", ".join(left)))

    def _keep_moment(self) -> None:
        self._before = self.place.now()

    def _undraw(self) -> None:
        """Lightning iterates the loaders of a cut validation again, and their workers draw a seed."""
        if self._before is not None and self._loop.batch_progress.total.ready == self._behind:
            self._before.restore(self.place.owned)

    def _set_place(self, fetcher: Any) -> None:
        """The epoch loop has begun: Lightning may have iterated the loaders, by its version, and fetches next."""
        now = self._before or self.place.now()
        now.restore(self.place.owned)
        if self._loop.restarted_on_train_batch_end and self._loop.batch_progress.is_last_batch:
            self._loop.batch_progress.reset_on_run()  # Lightning does so only if it knows the epoch's length
        batches, self._behind = self._loop.batch_progress.current.ready, self._loop.batch_progress.total.ready
        if batches == 0:
            self._begin(fetcher, now)
        elif self._loop._num_ready_batches_reached():
            # With max_steps Lightning fetches one batch more than the epoch has, if there is no validation.
            fetcher.reset()
            fetcher.done = True
        else:
            self.causes += self._pass_over(fetcher, batches)
            now.restore(self.place.owned)
        self.tell(ask_worker(self.causes, self.saved, self.place.loaders()), batches)

    def _begin(self, fetcher: Any, now: RngState) -> None:
        """Iterate the loaders from where they were: Lightning's own first iterators have moved them already."""
        self.place.attributes.restore(self.place.attributes.state(under_way=True))
        places = self.saved.get("places")
        if places and all(is_stateful(loader) for loader in self.place.loaders()):
            place = (self._fetches or {}).get("place")
            if place and (used := self.saved["batches"]) - place[0] <= _FEW:
                self.causes += self._end_again(fetcher, used)
            else:
                with contextlib.suppress(StopIteration):  # the place is the end of that epoch, and the next one follows
                    self._load_places(fetcher.combined_loader, places, now)
        elif any(state["workers"] == "kept stream" for state in self.saved["loaders"]):
            self.causes += begin_workers(fetcher.combined_loader, self._fetches)
        now.restore(self.place.owned)
        iter(fetcher)

    def _end_again(self, fetcher: Any, batches: int) -> list[InexactCause]:
        """Pull the last batches of the epoch that is over, and its end, where the loader was asked for it."""
        causes = self._take_up(fetcher, batches)
        if not (causes or fetcher.done) and self.place.trainer.num_training_batches == float("inf"):
            causes = [inexact_causes.PLACE.filled(batches=batches)]
        self._tell_end(fetcher)
        return causes

    def _load_places(self, combined: Any, places: list[Any], now: RngState) -> None:
        """Set the loaders behind the epoch that is over; raise ``StopIteration`` where nothing follows from there.

        Some go on from where the last iterator was, and those are set once more; others begin anew with each.
        """
        combined._load_state_dicts(places)
        firsts = []
        for _ in range(2):
            now.restore(self.place.owned)
            firsts.append(fingerprint(next(iter(combined))[0]))
        if firsts[0] != firsts[1]:
            combined._load_state_dicts(places)

    def _pass_over(self, fetcher: Any, batches: int) -> list[InexactCause]:
        """Set the loaders behind the batches that were used, and return why that is not exact, if it is not."""
        loaders = self.place.loaders()
        if all(is_stateful(loader) for loader in loaders):
            return self._take_up(fetcher, batches)
        if not self.rewind:
            return [inexact_causes.REWIND_OFF.filled(batches=batches)]
        if why := self._impossible(fetcher, loaders):
            return [inexact_causes.LOST.filled(batches=batches, why=why)]
        try:
            self._pull(fetcher, batches)
        except Exception as error:
            iter(fetcher)
            fetcher.fetched += batches  # as Lightning has it
            return [inexact_causes.lost(batches, error)]
        finally:
            self.place.played(batches)
        return list(self._checked(batches))

    def _impossible(self, fetcher: Any, loaders: list[Any]) -> str:
        saved = self.saved["loaders"]
        if any(is_stateful(loader) for loader in loaders):
            return "some of the loaders keep their place themselves"
        if isinstance(fetcher, both_packages(_DataLoaderIterDataFetcher)):
            return "training_step takes dataloader_iter"
        if len(saved) != len(loaders):
            return f"{len(saved)} loaders have become {len(loaders)}"
        pairs = zip(loaders, saved, strict=True)
        lost = any(is_indexed(loader) and recorder_of(loader) and not state.get("passes") for loader, state in pairs)
        return "the checkpoint does not tell how its sampler began" if lost else ""

    def _pull(self, fetcher: Any, batches: int) -> None:
        """Begin the epoch's passes again, and pull what was used of them."""
        pairs = list(zip(self.place.loaders(), self.saved["loaders"], strict=True))
        if any(has_persistent_workers(loader) and not state["reused"] for loader, state in pairs):
            fetcher.combined_loader.reset()  # these workers were started in this epoch, with a seed of then
        start_workers(loader for loader, state in pairs if state["reused"])
        self.place.set_streams(self.saved.get("streams", {}))
        self.place.play(self.saved["loaders"])
        self.place.play_fetches(self._fetches)
        iter(fetcher)
        for index in range(batches):
            self._last = next(fetcher)[0]
            self.place.note(first=index == 0)
        if self.place.fetches is not None:
            self.place.fetches.passes.take_up(self._fetches)

    def _take_up(self, fetcher: Any, batches: int) -> list[InexactCause]:
        """Set loaders that keep their place themselves behind the batches that were used, and see that they are."""
        combined: Any = self.place.trainer.fit_loop._combined_loader
        self._takes_up = True
        at, places = (self._fetches or {}).get("place") or (batches, self._states)
        known = bool(self._fetches and self._fetches["place"])
        if not (known or places):
            return [inexact_causes.STATEFUL]  # Lightning has set them
        try:
            combined._load_state_dicts(places)
            self.place.play_fetches(self._fetches, offset=at)
            if began := (self.saved.get("streams") or {}).get("began"):
                RngState.of(began).restore(self.place.owned)  # a sampler without a state draws its order anew
            iter(fetcher)
            fetcher.fetched += at
            self.place.play_fetches(self._fetches)
            for _ in range(batches - at):
                self._last = next(fetcher)[0]
            if known and self._fetches and self.place.fetches is not None:
                self.place.fetches.set_consumed(self._fetches["consumed"])
        except Exception as error:
            return [inexact_causes.lost(batches, error)]
        finally:
            self.place.played(0)
        return list(self._checked_place(batches, known))

    def _checked_place(self, batches: int, known: bool) -> Iterator[InexactCause]:
        """Compare the last batch that was pulled with the last that was used, or else the places."""
        right, fetches = self._last_is_right(), self._fetches
        if right:
            return
        if not known or not fetches or self.place.fetches is None:
            yield inexact_causes.STATEFUL
            return
        states = fingerprint(self.place.fetches.places(), whole=True)
        moves = states != fingerprint(fetches["place"][1], whole=True)
        # Within a batch the loader was saved one batch further on.
        if states is not None and moves and states == fetches["states"] and not self.saved["in_batch"]:
            if right is False:
                yield inexact_causes.DRAWN
        elif right is None:
            yield inexact_causes.STATEFUL
        else:
            drawn = all(map(has_persistent_workers, self.place.loaders()))
            yield inexact_causes.DRAWN_IN_WORKERS if drawn else inexact_causes.PLACE.filled(batches=batches)

    @property
    def _fetches(self) -> dict[str, Any] | None:
        return self.saved.get("fetches")

    def _last_is_right(self) -> bool | None:
        """Tell whether the last batch that was pulled is the last that was used; ``None`` if that is not known."""
        used = self._fetches["print"] if self._fetches else None
        pulled = None if self._last is None else fingerprint(self._last)
        self._last = None
        return None if used is None or pulled is None else used == pulled

    def _checked(self, batches: int) -> Iterator[InexactCause]:
        """Compare what was pulled with what was used: the same indices in the same order, or the same last batch."""
        loaders = self.place.loaders()
        right = self._last_is_right()
        if inexact_causes.WORKERS in self.causes and right is False:
            self.causes.remove(inexact_causes.WORKERS)
            yield inexact_causes.DRAWN_IN_WORKERS
        elif not all(is_indexed(loader) for loader in loaders):
            if right is None:
                yield inexact_causes.UNCHECKED.filled(batches=batches)
            elif not right:
                yield inexact_causes.ORDER.filled(batches=batches)
        if self.saved["in_batch"]:
            return  # of indices one batch more had been asked for
        for loader, state, now in zip(loaders, self.saved["loaders"], self.place.current(), strict=True):
            if now is None or not is_indexed(loader):
                continue
            same_workers = state["about"]["num_workers"] == loader.num_workers  # they decide how far it reads ahead
            if now.checksum != state["checksum"] and (same_workers or now.given == state["given"]):
                yield inexact_causes.ORDER.filled(batches=batches)

    def _start_validation_workers(self) -> None:
        """Start persistent workers that the saved run had started: they draw a seed when they do."""
        with self._put_back():
            pairs = zip(self.place.validation_loaders(), self.saved["validation_workers"], strict=False)
            start_workers(loader for loader, had in pairs if had)

    @contextlib.contextmanager
    def _put_back(self) -> Iterator[None]:
        now = self.place.now()
        yield
        now.restore(self.place.owned)
