"""Go on from a checkpoint as if the run had never stopped."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.loops.fetchers import _DataLoaderIterDataFetcher
from torch.utils.data import IterableDataset

from lightning_debugkit.callbacks.packages import overrides, twins
from lightning_debugkit.callbacks.resume import causes
from lightning_debugkit.callbacks.resume.causes import Cause
from lightning_debugkit.callbacks.resume.moments import Moment
from lightning_debugkit.callbacks.resume.passes import watch_of
from lightning_debugkit.callbacks.resume.place import Place, is_stateful
from lightning_debugkit.replay.unseen import StandIn


class Resumption:
    """Sets the random states and the place in the loaders, once, between ``on_train_start`` and the first batch.

    Random states are set when every ``on_train_start`` is over: the run that goes on has none here. The loaders are
    iterated anew when the epoch loop begins: Lightning began to do so earlier, with other random states.

    Args:
        place: The loaders of the fit that resumes.
        saved: This rank's state in the checkpoint.
        rewind: Whether to pull the batches again that were used in the epoch.
        tell: Takes all causes why the resume is not exact, and the number of batches used in the epoch.
        trouble: Takes a fault of the kit.
    """

    def __init__(
        self,
        place: Place,
        saved: dict[str, Any],
        rewind: bool,
        tell: Callable[[list[Cause], int], None],
        trouble: Callable[[str, BaseException], None],
    ) -> None:
        self.place, self.saved, self.rewind, self.tell, self.trouble = place, saved, rewind, tell, trouble
        self.causes: list[Cause] = []
        self._before: Moment | None = None

    def arm(self, trainer: Trainer, module: LightningModule) -> None:
        """Prepare: to be called in ``on_train_start``."""
        fit = trainer.fit_loop
        if self.saved["epoch_ended"] and fit.restarting and overrides(module, "on_train_epoch_end"):
            self.causes.append(causes.HOOKS_AGAIN)
        if fit.restarting and any(is_stateful(loader) for loader in self.place.loaders()):
            self.causes.append(causes.STATEFUL)
        self._start_validation_workers()
        self._step_plateaus(trainer, module)
        fit._last_train_dl_reload_epoch = self.saved["reloaded"]
        self._once(fit, "on_advance_start", self._set_random_states, lambda *args: None)
        self._once(fit.epoch_loop, "on_run_start", self._keep_moment, self._set_place)

    def release(self) -> None:
        """Leave the loops as they were, if the fit ended before they began."""
        for loop, name in ((self.place.trainer.fit_loop, "on_advance_start"), (self._loop, "on_run_start")):
            vars(loop).pop(name, None)

    @property
    def _loop(self) -> Any:
        return self.place.trainer.fit_loop.epoch_loop

    def _once(self, owner: Any, name: str, before: Callable[[], None], after: Callable[..., None]) -> None:
        """Let the next call of a loop's method be preceded and followed by ours; what fails in ours is told."""
        method = getattr(owner, name)

        def called(*args: Any) -> None:
            vars(owner).pop(name, None)
            self._guarded(name, before)
            method(*args)
            self._guarded(name, after, *args)

        vars(owner)[name] = StandIn(owner, name, called)

    def _guarded(self, name: str, ours: Callable[..., None], *args: Any) -> None:
        try:
            ours(*args)
        except Exception as error:
            self.trouble(name, error)

    def _set_random_states(self) -> None:
        missing = Moment.of(self.saved["now"]).restore(self.place.owned)
        if missing:
            self.causes.append(causes.GENERATORS.filled(names=", ".join(sorted(missing))))

    def _keep_moment(self) -> None:
        self._before = self.place.now()

    def _set_place(self, fetcher: Any) -> None:
        """The epoch loop has begun: Lightning may have iterated the loaders, by its version, and fetches next."""
        now = self._before or self.place.now()
        now.restore(self.place.owned)
        if self._loop.restarted_on_train_batch_end and self._loop.batch_progress.is_last_batch:
            self._loop.batch_progress.reset_on_run()  # Lightning does so only if it knows the epoch's length
        batches = self._loop.batch_progress.current.ready
        if batches == 0:
            iter(fetcher)
        elif self._loop._num_ready_batches_reached():
            # With max_steps Lightning fetches one batch more than the epoch has, if there is no validation.
            fetcher.reset()
            fetcher.done = True
        else:
            self.causes += self._pass_over(fetcher, batches)
            now.restore(self.place.owned)
        self.tell(self.causes, batches)

    def _pass_over(self, fetcher: Any, batches: int) -> list[Cause]:
        """Set the loaders behind the batches that were used, and return why that is not exact, if it is not."""
        loaders = self.place.loaders()
        if all(is_stateful(loader) for loader in loaders):
            return []  # Lightning has set them
        if not self.rewind:
            return [causes.REWIND_OFF.filled(batches=batches)]
        if why := self._impossible(fetcher, loaders):
            return [causes.LOST.filled(batches=batches, why=why)]
        try:
            self._pull(fetcher, batches)
        except Exception as error:
            iter(fetcher)
            fetcher.fetched += batches  # as Lightning has it
            ended = isinstance(error, StopIteration)
            why = "it gives fewer" if ended else f"it raised {type(error).__name__}: {error}"
            return [causes.LOST.filled(batches=batches, why=why)]
        finally:
            self.place.played(batches)
        return list(self._checked(batches))

    def _impossible(self, fetcher: Any, loaders: list[Any]) -> str:
        saved = self.saved["loaders"]
        if any(is_stateful(loader) for loader in loaders):
            return "some of the loaders keep their place themselves"
        if isinstance(fetcher, twins(_DataLoaderIterDataFetcher)):
            return "training_step takes dataloader_iter"
        if len(saved) != len(loaders):
            return f"{len(saved)} loaders have become {len(loaders)}"
        pairs = zip(loaders, saved, strict=True)
        lost = any(watch_of(loader) is not None and not state.get("passes") for loader, state in pairs)
        return "the checkpoint does not tell how its sampler began" if lost else ""

    def _pull(self, fetcher: Any, batches: int) -> None:
        """Begin the epoch's passes again, and pull what was used of them."""
        pairs = list(zip(self.place.loaders(), self.saved["loaders"], strict=True))
        if any(_persistent(loader) and not state["reused"] for loader, state in pairs):
            fetcher.combined_loader.reset()  # these workers were started in this epoch, with a seed of then
        for loader, state in pairs:
            if _persistent(loader) and state["reused"] and loader._iterator is None:
                iter(loader)
        self.place.play(self.saved["loaders"])
        iter(fetcher)
        for index in range(batches):
            next(fetcher)
            self.place.note(first=index == 0)

    def _checked(self, batches: int) -> Iterator[Cause]:
        """Compare what was pulled with what was used: the same indices in the same order."""
        if self.saved["in_batch"]:
            return  # one batch more had been fetched
        for loader, state, now in zip(self.place.loaders(), self.saved["loaders"], self.place.current(), strict=True):
            if now is None or isinstance(loader.dataset, IterableDataset):
                if not isinstance(loader, list | tuple):
                    yield causes.UNCHECKED.filled(batches=batches)
                continue
            same_workers = state["about"]["num_workers"] == loader.num_workers  # they decide how far it reads ahead
            if now.checksum != state["checksum"] and (same_workers or now.given == state["given"]):
                yield causes.ORDER.filled(batches=batches)

    def _start_validation_workers(self) -> None:
        """Start persistent workers that the saved run had started: they draw a seed when they do."""
        with self._put_back():
            for loader, had in zip(self.place.validation_loaders(), self.saved["validation_workers"], strict=False):
                if had and _persistent(loader) and loader._iterator is None:
                    iter(loader)

    def _step_plateaus(self, trainer: Trainer, module: LightningModule) -> None:
        """Step the schedulers that waited for a metric when the checkpoint was saved, as the saved run did next."""
        configs = trainer.lr_scheduler_configs
        for waiting in self.saved["plateau"]:
            if waiting["metric"] is None or waiting["index"] >= len(configs):
                self.causes.append(causes.PLATEAU.filled(scheduler=waiting["scheduler"]))
            else:
                module.lr_scheduler_step(configs[waiting["index"]].scheduler, waiting["metric"])

    @contextlib.contextmanager
    def _put_back(self) -> Iterator[None]:
        now = self.place.now()
        yield
        now.restore(self.place.owned)


def _persistent(loader: Any) -> bool:
    return bool(getattr(loader, "persistent_workers", False))
