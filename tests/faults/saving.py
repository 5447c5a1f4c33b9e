"""What a stock `ModelCheckpoint` keeps under a name that is not so, and epochs that all have one order."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch.utils.data import BatchSampler, DataLoader, Sampler, TensorDataset

from faults.registry import Classifier, Program, batches, digits, fault

# --- checkpoint-stale ----------------------------------------------------------------------------------------------


class Scored(Classifier):
    """Its validation gives the scores that it is told."""

    scores = (3.0, 2.0, 4.0, 5.0)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_loss", torch.tensor(self.scores[self.current_epoch]))


def saved(module: pl.LightningModule, **options: Any) -> Program:
    trainer = {"max_epochs": 4, "limit_val_batches": 1, "num_sanity_val_steps": 0}
    keeps = ModelCheckpoint(**options)
    return Program(module, batches(*digits(160)), batches(*digits(160)), trainer=trainer, callbacks=[keeps])


@fault("checkpoint-stale")
def a_file_that_is_ranked_by_the_last_but_one_validation(mended: bool) -> Program:
    """It is written in the middle of an epoch, by the metric of the epoch before."""
    every = {} if mended else {"every_n_train_steps": 7}
    return saved(Scored(mended), monitor="val_loss", save_top_k=-1, **every)


# --- order-repeats -------------------------------------------------------------------------------------------------


class Shuffled(Sampler[int]):
    """Shuffles by the epoch that it is told."""

    def __init__(self, n: int) -> None:
        self.n, self.epoch = n, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return self.n

    def __iter__(self) -> Iterator[int]:
        yield from torch.randperm(self.n, generator=torch.Generator().manual_seed(self.epoch)).tolist()


class Buckets(BatchSampler):
    """A batch sampler around one that shuffles: Lightning sets the epoch of what it has as ``sampler``."""

    def __init__(self, inner: Shuffled, mended: bool) -> None:
        super().__init__(range(inner.n), 16, False)
        self.inner = inner
        if mended:
            self.sampler = inner

    def __iter__(self) -> Iterator[list[int]]:
        order = list(self.inner)
        yield from (order[at : at + 16] for at in range(0, len(order), 16))

    def set_epoch(self, epoch: int) -> None:
        self.inner.set_epoch(epoch)


@fault("order-repeats")
def a_batch_sampler_whose_epoch_nobody_sets(mended: bool) -> Program:
    data = TensorDataset(*digits(160))
    loader = DataLoader(data, batch_sampler=Buckets(Shuffled(len(data)), mended))
    return Program(Classifier(mended), loader, trainer={"max_epochs": 3})
