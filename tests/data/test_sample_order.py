"""Listening to loaders leaves them as free to go as without, and hears the loader that is in use."""

from __future__ import annotations

import gc
import itertools
import pickle
import weakref
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from evaluation.erring import Says, random_answers
from monitors.breaking import QUIET
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, TensorDataset

from lightning_debugkit import ErrorAnalysis, ExactResume, GradientAnomalyDetector
from lightning_debugkit.data.sample_order import SampleOrder

pytestmark = pytest.mark.filterwarnings("ignore")


class Reloading(Says):
    """Its data are made anew each epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.made: list[Any] = []

    def _loader(self) -> DataLoader[Any]:
        data = TensorDataset(*random_answers(32, 3))
        self.made.append(weakref.ref(data))
        return DataLoader(data, 8)

    def train_dataloader(self) -> Any:
        return self._loader()

    def val_dataloader(self) -> Any:
        return self._loader()


class Alive(pl.Callback):
    """Counts the data sets that are there at the end of each epoch."""

    def __init__(self) -> None:
        self.counts: list[int] = []

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        gc.collect()
        self.counts.append(sum(data() is not None for data in pl_module.made))


class Following(pl.Callback):
    """Takes note of the dataset indices of each training batch."""

    def __init__(self) -> None:
        self.order = SampleOrder()
        self.seen: list[Any] = []

    def setup(self, trainer: pl.Trainer, pl_module: Any, stage: str) -> None:
        self.order.install(trainer)

    def on_train_batch_start(self, trainer: pl.Trainer, *args: Any) -> None:
        self.order.advance(trainer)
        self.seen.append(self.order.current)

    def teardown(self, trainer: pl.Trainer, pl_module: Any, stage: str) -> None:
        self.order.remove()


def fit(folder: Path, *callbacks: pl.Callback, epochs: int = 4) -> Reloading:
    options = {**QUIET, "max_epochs": epochs, "reload_dataloaders_every_n_epochs": 1}
    module = Reloading()
    pl.Trainer(default_root_dir=folder, callbacks=list(callbacks), **options).fit(module)
    return module


@pytest.mark.parametrize("training_dynamics", [False, True])
def test_data_that_are_loaded_anew_are_not_kept(training_dynamics: bool, tmp_path: Path) -> None:
    without, alive = Alive(), Alive()
    fit(tmp_path / "without", without)
    fit(tmp_path / "with", ErrorAnalysis(training_dynamics=training_dynamics), alive)
    assert len(alive.counts) == 4
    assert alive.counts == without.counts


def test_the_order_is_known_of_every_loader_that_is_loaded_anew(tmp_path: Path) -> None:
    following = Following()
    fit(tmp_path, following, epochs=3)
    assert following.seen == [list(range(first, first + 8)) for first in (0, 8, 16, 24)] * 3


def test_loaders_get_their_samplers_back(tmp_path: Path) -> None:
    loader = DataLoader(TensorDataset(*random_answers(32, 3)), 8)
    sampler = loader.batch_sampler
    pl.Trainer(default_root_dir=tmp_path, callbacks=[Following()], **QUIET).fit(Says(), loader)
    assert loader.batch_sampler is sampler


class Counted(BatchSampler):
    """Has an epoch of its own, which Lightning does not set: it sets that of ``sampler``."""

    epochs: list[int]

    def set_epoch(self, epoch: int) -> None:
        self.epochs.append(epoch)


@pytest.mark.parametrize("watchers", [(), (GradientAnomalyDetector,), (GradientAnomalyDetector, ExactResume)])
def test_lightning_sets_the_epochs_that_it_sets_without_us(watchers: Any, tmp_path: Path) -> None:
    batches, inner = Counted(RandomSampler(range(32)), 8, False), Counted(RandomSampler(range(32)), 8, False)
    batches.epochs, inner.epochs = [], []
    batches.sampler.set_epoch = inner.set_epoch
    loader = DataLoader(TensorDataset(*random_answers(32, 3)), batch_sampler=batches)
    options = {**QUIET, "max_epochs": 2}
    pl.Trainer(default_root_dir=tmp_path, callbacks=[kind() for kind in watchers], **options).fit(Says(), loader)
    assert (batches.epochs, inner.epochs) == ([], [0, 1])


def test_a_copy_listens_to_nothing_yet(tmp_path: Path) -> None:
    order = SampleOrder()
    trainer = pl.Trainer(default_root_dir=tmp_path, **QUIET)
    order.install(trainer)
    copy = pickle.loads(pickle.dumps(order))
    copy.remove()  # leaves the original's ear where it is
    assert "process_dataloader" in vars(trainer.strategy)
    order.remove()
    assert "process_dataloader" not in vars(trainer.strategy)


def test_indices_of_batches_that_nobody_counts_do_not_wait(tmp_path: Path) -> None:
    """The targets are mixtures, so that training samples cannot be followed; the second loader does not count."""
    logits, target = random_answers(64, 3)
    mixed = torch.nn.functional.one_hot(target, 3) * 0.9 + 0.1 / 3
    callback = ErrorAnalysis(training_dynamics=True, loaders=[0])
    waiting: list[int] = []

    class Looks(pl.Callback):
        def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
            orders = [callback.watch.order, callback.learning.order] if callback.learning else []
            waiting.append(sum(len(given.given) for order in orders for given in order._heard.values()))

    loaders = [DataLoader(TensorDataset(logits, target), 8) for _ in range(2)]
    trainer = pl.Trainer(default_root_dir=tmp_path, callbacks=[callback, Looks()], max_epochs=2, **QUIET)
    trainer.fit(Says(), DataLoader(TensorDataset(logits, mixed), 8), loaders)
    assert callback.learning is not None
    assert callback.learning.why_not
    assert waiting == [0, 0]


@pytest.mark.parametrize("order", itertools.permutations(range(3)))
def test_the_strategy_is_left_as_it_was_whoever_leaves_first(order: tuple[int, ...], tmp_path: Path) -> None:
    """Those that listen to its loaders stand on one another, in the order of the callbacks."""
    trainer = pl.Trainer(
        default_root_dir=tmp_path,
        callbacks=[
            (GradientAnomalyDetector(), ExactResume(), ErrorAnalysis(training_dynamics=True))[at] for at in order
        ],
        max_epochs=1,
        **QUIET,
    )
    data = DataLoader(TensorDataset(*random_answers(32, 3)), 8)
    trainer.fit(Says(), data, data)
    assert "process_dataloader" not in vars(trainer.strategy)
