"""The training error, measured as the validation error is: in eval mode, on fixed samples, leaving no trace."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset
from torchmetrics import Metric

from lightning_debugkit.core.compat import (
    LightningModule,
    Trainer,
    before_transfer,
    is_param_in_hook_signature,
    overrides,
)
from lightning_debugkit.core.isolation import isolated
from lightning_debugkit.core.run import batch_size_of
from lightning_debugkit.core.sharding import cannot_rerun, holds_whole_model
from lightning_debugkit.data.drawing import drawing
from lightning_debugkit.data.loaders import loaders_of
from lightning_debugkit.evaluation.bias_variance.logged_metric import LoggedValues
from lightning_debugkit.evaluation.bias_variance.measurement import MeasuredAt, Taken
from lightning_debugkit.replay.step_replay import muted

STEPS = ("validation_step", "training_step")


class NotMeasurable(RuntimeError):
    """The training error cannot be measured; the message says why."""


@dataclass(frozen=True)
class TrainingSample:
    """A fixed part of the training data, dealt out to the ranks in equal shares."""

    loader: DataLoader[Any]  # its batches on this rank
    n: int  # samples on all ranks
    of: int  # samples there are
    rank: int = 0  # this rank
    world: int = 1  # how many ranks there are


def draw_training_sample(loader: Any, most: int, rank: int = 0, world: int = 1) -> TrainingSample:
    """Return ``most`` samples of the data of a loader, the same at every call.

    Raises:
        NotMeasurable: The loader's data cannot be read a second time.
    """
    found = loaders_of(loader)
    if len(found) != 1 or not isinstance(found[0], DataLoader):
        raise NotMeasurable("the training data do not come from one DataLoader")
    source = found[0]
    dataset: Dataset[Any] = source.dataset
    if isinstance(dataset, IterableDataset) or source.batch_sampler is None:
        raise NotMeasurable("the training data are a stream that cannot be read twice")
    length = len(dataset)  # type: ignore[arg-type]  # a map-style data set with a sampler has one
    n = min(most, length)
    chosen = torch.randperm(length, generator=torch.Generator().manual_seed(0))[:n].sort().values.tolist()
    # Equal shares, as a step may hold collectives; what is repeated for that is not counted.
    share = (chosen * world)[: -(-n // world) * world][rank::world] if n else []
    size = batch_size_of(source) or 32
    workers = source.num_workers
    extra: dict[str, Any] = {"multiprocessing_context": source.multiprocessing_context} if workers else {}
    return TrainingSample(
        DataLoader(
            Subset(dataset, share),
            batch_size=size,
            collate_fn=source.collate_fn,
            num_workers=workers,
            pin_memory=source.pin_memory,
            timeout=source.timeout,
            worker_init_fn=source.worker_init_fn,
            generator=torch.Generator().manual_seed(0),
            **extra,
        ),
        n,
        length,
        rank,
        world,
    )


def measure_training_error(
    trainer: Trainer,
    module: LightningModule,
    sample: TrainingSample,
    new: Callable[[], Taken],
    steps: Sequence[str] = STEPS,
) -> Taken:
    """Run the first of ``steps`` that the module has and that can be run over the sample, in eval mode.

    Parameters, buffers, random state, metrics, logged values and modes are those of before afterwards.
    """
    if reason := cannot_rerun(trainer):
        raise NotMeasurable(reason)
    steps = [step for step in steps if overrides(module, step)]
    for step in steps:
        try:
            return _run(trainer, module, sample, new(), step)
        except Exception:
            # Training batches may be of another make than those of validation.
            if step == steps[-1]:
                raise
    raise NotMeasurable("the module has no step to run")


def _run(trainer: Trainer, module: LightningModule, sample: TrainingSample, take: Taken, step: str) -> Taken:
    with left_alone(trainer, module), drawing([sample.loader.dataset, sample.loader.collate_fn]):
        module.eval()
        for part in module.modules():
            if isinstance(part, Metric):
                part.reset()
        first = 0
        for batch_idx, raw in enumerate(sample.loader):
            batch = trainer.precision_plugin.convert_input(raw)
            batch = before_transfer(module, batch)
            batch = trainer.strategy.batch_to_device(batch, dataloader_idx=0)
            rows = len(sample.loader.dataset) - first  # type: ignore[arg-type]  # a Subset
            places = sample.rank + sample.world * (first + torch.arange(min(rows, sample.loader.batch_size or 1)))
            first += len(places)
            run = _step(trainer, module, step, batch, batch_idx)
            take.begin(step, module, batch)
            try:
                take.end(MeasuredAt(step, module, run(), batch, places < sample.n, places, run))
            finally:
                take.stop()
        if step == "validation_step" and isinstance(take, LoggedValues) and not take.values:
            # Some log the metric only at the end of the epoch.
            take.begin(step, module, None)
            try:
                module.on_validation_epoch_end()
            finally:
                take.stop()
        if isinstance(take, LoggedValues):
            take.settle()
    return take


@contextlib.contextmanager
def left_alone(trainer: Trainer, module: LightningModule) -> Iterator[None]:
    """Let steps run without gradients, logging and traces."""
    with muted(trainer, module), isolated(module), torch.no_grad():
        yield


def again(trainer: Trainer, module: LightningModule, step: str, batch: Any, *indices: int) -> Callable[[], Any] | None:
    """Return what runs the step of an evaluation batch once more, leaving no trace; ``None`` if that cannot be."""
    if not holds_whole_model(trainer):
        return None

    def run() -> Any:
        with left_alone(trainer, module):
            return _step(trainer, module, step, batch, *indices)()

    return run


def _step(
    trainer: Trainer, module: LightningModule, name: str, batch: Any, batch_idx: int, dataloader_idx: int = 0
) -> Callable[[], Any]:
    """Return what runs a step outside of the strategy, so that no collective starts."""
    function = getattr(module, name)
    arguments = [batch]
    if is_param_in_hook_signature(function, "batch_idx", min_args=2):
        arguments.append(batch_idx)
    if is_param_in_hook_signature(function, "dataloader_idx", min_args=3):
        arguments.append(dataloader_idx)

    def run() -> Any:
        with trainer.precision_plugin.forward_context():
            # Asked for now: who listens to the step has come to stand around it since.
            return getattr(module, name)(*arguments)

    return run
