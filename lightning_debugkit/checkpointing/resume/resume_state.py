"""What a checkpoint must hold, so that a run can go on from it as if it had never stopped."""

from __future__ import annotations

from typing import Any, cast

import torch.distributed as dist
from torch.utils.data import DataLoader, RandomSampler

from lightning_debugkit.checkpointing.resume import plateaus, pruning
from lightning_debugkit.checkpointing.resume.dataloader_position import (
    DataLoaderPosition,
    about,
    is_indexed,
    is_stateful,
)
from lightning_debugkit.checkpointing.resume.rng_state import plain
from lightning_debugkit.checkpointing.resume.stopped import validation_is_due
from lightning_debugkit.core.compat import LightningModule, Trainer, _DropoutNd, overrides
from lightning_debugkit.data.loaders import has_persistent_workers, own_sampler


def state(trainer: Trainer, module: LightningModule, place: DataLoaderPosition) -> dict[str, Any]:
    """Return this rank's state: random states, the place in the loaders, and what stands in the way of exactness."""
    fit = trainer.fit_loop
    loop = fit.epoch_loop
    progress: Any = loop.batch_progress.current
    epochs: Any = fit.epoch_progress.current
    under_way = progress.ready > 0 and not loop._num_ready_batches_reached()
    now, places = place.ended or (place.now(), place.places())
    state = {
        "now": place.stops.moment() or now,
        "batches": progress.ready,
        "loaders": [
            {"about": about(loader), "workers": _workers(trainer, loader, within)} | within
            for loader, within in zip(place.loaders(), place.state(under_way, progress.processed), strict=True)
        ],
        "settings": settings(trainer),
        "validation_workers": [_has_workers(loader) for loader in place.validation_loaders()],
        "reloads": bool(trainer.reload_dataloaders_every_n_epochs),  # type: ignore[attr-defined]  # set by a connector
        "reloaded": fit._last_train_dl_reload_epoch,
        "in_batch": progress.ready != progress.processed,
        "in_epoch_start": _epoch_starts(trainer),
        "hooks": _hooks_to_come(trainer, module),
        "epoch_ended": epochs.completed < epochs.processed,
        "in_window": progress.ready % trainer.accumulate_grad_batches if under_way else 0,
        "validation": _validation_is_cut(trainer),
        "undrawn": not trainer.validating and _draws(module, place),
        "plateau": plateaus.waiting(trainer, module, in_batch_end=_in_batch_end(trainer)),
        "pruning": pruning.state(trainer, module),
        "streams": place.stream_state(under_way),
    }
    state = cast(dict[str, Any], plain(state))
    if not under_way:
        state["places"] = places
    if place.fetches is not None:
        fetches = place.fetches.state(progress.processed, places, under_way)
        # Places are of the types that the loaders chose: Lightning saves them, too.
        state["fetches"] = {**fetches, "moments": plain(fetches["moments"])}
    return state


def settings(trainer: Trainer) -> dict[str, Any]:
    """Return the settings of the Trainer that decide which batches make a step."""
    batches = trainer.num_training_batches
    return {
        "number of batches": batches if batches != float("inf") else None,
        "accumulate_grad_batches": trainer.accumulate_grad_batches,
    }


def of_all_ranks(mine: dict[str, Any] | None, alone: bool) -> list[dict[str, Any] | None]:
    """Return the states of all ranks, by rank: a collective, as saving a checkpoint is one.

    Args:
        mine: State of this rank.
        alone: Whether other ranks may not come: then theirs are missing.
    """
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return [mine]
    states: list[dict[str, Any] | None] = [None] * dist.get_world_size()
    if alone:
        states[dist.get_rank()] = mine
    else:
        dist.all_gather_object(states, mine)
    return states


def _has_workers(loader: Any) -> bool:
    return getattr(loader, "_iterator", None) is not None


def _workers(trainer: Trainer, loader: Any, within: dict[str, Any]) -> str:
    """Return what the loader's workers do that cannot be had again, empty if nothing or if it is compared."""
    if not getattr(loader, "num_workers", 0) or is_stateful(loader):
        return ""
    if not getattr(loader, "in_order", True):
        return "out of order"
    # After the fit they are gone, but the run that is not stopped there goes on with them.
    had = _has_workers(loader) or (has_persistent_workers(loader) and trainer.fit_loop.total_batch_idx >= 0)
    if not (had and within.get("reused", True)):
        return ""
    return "kept" if is_indexed(loader) else "kept stream"


def _in_batch_end(trainer: Trainer) -> bool:
    batch: Any = trainer.fit_loop.epoch_loop.batch_progress.current
    return bool(batch.completed < batch.processed == batch.ready)


def _epoch_starts(trainer: Trainer) -> bool:
    """Tell whether an epoch is about to start, so that its loaders may have been iterated already."""
    epochs: Any = trainer.fit_loop.epoch_progress.current
    return bool(trainer.training and (trainer.fit_loop.total_batch_idx < 0 or epochs.ready > epochs.started))


def _hooks_to_come(trainer: Trainer, module: LightningModule) -> list[str]:
    """Return the model's hooks between this save and the next batch that Lightning leaves out when it resumes."""
    if not (_in_batch_end(trainer) and trainer.fit_loop.epoch_loop._num_ready_batches_reached()):
        return []
    return [name for name in ("on_train_epoch_end", "on_train_epoch_start") if overrides(module, name)]


def _validation_is_cut(trainer: Trainer) -> bool:
    """Tell whether a validation is due or under way, which Lightning does not run anew when it resumes."""
    loop = trainer.fit_loop.epoch_loop
    if trainer.validating:
        progress = loop.val_loop.batch_progress
        return not (progress.is_last_batch and progress.current.ready == progress.current.completed)
    return _in_batch_end(trainer) and validation_is_due(trainer)


def _draws(module: LightningModule, place: DataLoaderPosition) -> bool:
    """Tell whether a validation draws random numbers of this process, as each iterator of torch does, and training."""
    asked = any(isinstance(loader, DataLoader) and loader.generator is None for loader in place.validation_loaders())
    samplers = [own_sampler(getattr(loader, "sampler", None)) for loader in place.loaders()]
    shuffled = any(isinstance(each, RandomSampler) and each.generator is None for each in samplers)
    return asked and (shuffled or any(isinstance(part, _DropoutNd) and part.p > 0 for part in module.modules()))
