"""Hold a slice of the training data out of training: what the model does on it tells variance from shift."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader, DistributedSampler, IterableDataset, RandomSampler, SequentialSampler, Subset

from lightning_debugkit.core.compat import Trainer
from lightning_debugkit.core.patching import StandIn
from lightning_debugkit.core.run import batch_size_of
from lightning_debugkit.data.sample_order import AroundSampler


class Chosen(AroundSampler):
    """A batch sampler that counts in a part of the data and gives their indices in the whole."""

    def __init__(self, sampler: Any, indices: list[int]) -> None:
        super().__init__(sampler)
        self.indices = indices

    def __iter__(self) -> Iterator[list[int]]:
        for batch in self.inner:
            yield [self.indices[at] for at in batch]


class Holdout:
    """Take a fixed part of the training data away from the training loader for the time of a fit."""

    def __init__(self, fraction: float) -> None:
        self.fraction = fraction  # share of the training data to hold out
        self.held: DataLoader[Any] | None = None  # both are to be drawn from
        self.kept: DataLoader[Any] | None = None
        self.samples = 0  # that are kept
        self._standing: StandIn | None = None
        self._changed: list[tuple[Any, str, Any]] = []

    def install(self, trainer: Trainer) -> None:
        """Change the training loader when Lightning has given it its sampler, before its first iterator is made."""
        strategy = trainer.strategy
        process = strategy.process_dataloader

        def processed(dataloader: Any) -> Any:
            # The same loader is processed again where it is reloaded.
            if trainer.training and not any(owner is dataloader for owner, _, _ in self._changed):
                self._take_away(dataloader)
            return process(dataloader)

        self._standing = StandIn(strategy, "process_dataloader", processed).stand()

    def remove(self) -> None:
        """Leave strategy, loader and sampler as they were."""
        if self._standing is not None:
            self._standing.leave()
        for owner, name, value in reversed(self._changed):
            object.__setattr__(owner, name, value)
        self._changed = []

    def _take_away(self, loader: Any) -> None:
        sampler = loader.sampler if isinstance(loader, DataLoader) else None
        plain = type(sampler) in (RandomSampler, SequentialSampler, DistributedSampler)
        if not plain or isinstance(loader.dataset, IterableDataset) or loader.batch_sampler is None:
            raise ValueError(
                "BiasVarianceReport needs one training DataLoader with a plain sampler to hold train_dev out, got "
                f"{type(sampler or loader).__name__}; hold a part out yourself and name its loader in roles."
            )
        whole = loader.dataset
        n = len(whole)
        held = round(self.fraction * n)
        if not 0 < held < n:
            raise ValueError(
                f"BiasVarianceReport needs train_dev to leave samples on both sides, got {self.fraction!r} of {n}; "
                "0.1 is a good start."
            )
        order = torch.randperm(n, generator=torch.Generator().manual_seed(0)).tolist()
        # Indices stay those of the whole: whoever records them, records what the user knows.
        kept = sorted(order[held:])
        self.samples = len(kept)
        self.held, self.kept = _part(loader, sorted(order[:held])), _part(loader, kept)
        if isinstance(sampler, DistributedSampler):
            share, odd = divmod(len(kept), sampler.num_replicas)
            samples = share if sampler.drop_last or not odd else share + 1
            self._set(sampler, "dataset", kept)
            self._set(sampler, "num_samples", samples)
            self._set(sampler, "total_size", samples * sampler.num_replicas)
        else:
            self._set(sampler, "data_source", kept)
        self._set(loader, "batch_sampler", Chosen(loader.batch_sampler, kept))

    def _set(self, owner: Any, name: str, value: Any) -> None:
        self._changed.append((owner, name, getattr(owner, name)))
        # DataLoader forbids to set these once it is built; its iterators read them all the same.
        object.__setattr__(owner, name, value)


def _part(loader: DataLoader[Any], indices: list[int]) -> DataLoader[Any]:
    return DataLoader(
        Subset(loader.dataset, indices),
        batch_size=batch_size_of(loader) or 32,
        collate_fn=loader.collate_fn,
        num_workers=loader.num_workers,
        worker_init_fn=loader.worker_init_fn,
    )
