"""Of several loaders, the one whose entry is bad is named; and whatever the arguments of a step are called."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.utilities import CombinedLoader
from monitors.breaking import QUIET
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from lightning_debugkit import Finding, GradientAnomalyDetector, TrainingAnomaly, read_journal

ONE_EPOCH: dict[str, Any] = {**QUIET, "max_epochs": 1, "num_sanity_val_steps": 0}


class Directions(pl.LightningModule):
    """Learns from rows of length 1: a row of zeros has none."""

    def __init__(self) -> None:
        super().__init__()
        self.head = torch.nn.Linear(3, 1)

    def parts(self, batch: Any) -> list[Tensor]:
        if isinstance(batch, dict):
            batch = list(batch.values())
        return [part[0] for part in batch if part is not None] if isinstance(batch[0], list | None) else [batch[0]]

    def loss(self, batch: Any) -> Tensor:
        rows = [part / part.norm(dim=1, keepdim=True) for part in self.parts(batch)]
        return torch.stack([self.head(each).square().mean() for each in rows]).sum()

    def training_step(self, batch: Any, at: int) -> Tensor:
        return self.loss(batch)

    def validation_step(self, batch: Any, _: int, dataloader_idx: int = 0) -> None:
        self.log("val_loss", self.loss(batch))

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), 0.01)


def rows(n: int, *empty: int) -> TensorDataset:
    data = torch.randn(n, 3, generator=torch.Generator().manual_seed(n))
    data[list(empty)] = 0
    return TensorDataset(data)


def by_length(samples: list[tuple[Tensor]]) -> list[Tensor]:
    return [torch.stack(sorted((row for (row,) in samples), key=lambda row: -float(row.norm())))]


def findings(folder: Path, train: Any, val: Any = None) -> list[Finding]:
    torch.manual_seed(0)
    trainer = pl.Trainer(default_root_dir=folder, callbacks=[GradientAnomalyDetector()], **ONE_EPOCH)
    with contextlib.suppress(TrainingAnomaly):
        trainer.fit(Directions(), train, val)
    return [found for found in read_journal(folder / "debugkit").findings if found.rule.startswith("nonfinite")]


def named(found: list[Finding]) -> list[tuple[Any, str]]:
    return [(each.evidence["dataset_indices"], each.message.partition("sample ")[2]) for each in found]


TRAINING: dict[str, tuple[Any, Any]] = {
    "the second of a list": ([(40, ()), (48, (17,))], ([17], "1 of batch[1]")),
    "the first of a list": ([(48, (17,)), (40, ())], ([17], "1 of batch[0]")),
    "of a dict": ({"a": (40, ()), "b": (48, (17,))}, ([17], "1 of batch['b']")),
    "both: none is known to be the one": ([(40, (1,)), (48, (1,))], ([], "")),
    "none": ([(40, ()), (48, ())], None),
}


@pytest.mark.parametrize("mode", ["min_size", "max_size", "max_size_cycle"])
@pytest.mark.parametrize(("made", "told"), TRAINING.values(), ids=TRAINING)
def test_of_loaders_with_batches_of_one_size_the_guilty_one_is_named(
    made: Any, told: Any, mode: str, tmp_path: Path
) -> None:
    def loader(n: int, empty: Any) -> Any:
        return DataLoader(rows(n, *empty), 8)

    loaders = (
        {key: loader(*each) for key, each in made.items()}
        if isinstance(made, dict)
        else [loader(*each) for each in made]
    )
    assert named(findings(tmp_path, CombinedLoader(loaders, mode))) == ([] if told is None else [told])


EVALUATION: dict[str, tuple[Any, str, Any]] = {
    "in turn": ([(40, (), 8), (40, (21,), 8)], "sequential", ([21], "5 of the batch")),
    "at once": ([(40, (), 8), (40, (21,), 8)], "min_size", ([21], "5 of batch[1]")),
    "at once, of unequal length": ([(16, (), 8), (40, (37,), 8)], "max_size", ([37], "5 of batch[1]")),
    "at once, of unequal sizes": ([(40, (), 8), (60, (30,), 12)], "min_size", ([30], "6 of batch[1]")),
    "begun again": ([(16, (), 8), (40, (), 8)], "max_size_cycle", None),
}


@pytest.mark.parametrize(("made", "mode", "told"), EVALUATION.values(), ids=EVALUATION)
def test_a_validation_runs_again_with_the_arguments_of_lightning(
    made: Any, mode: str, told: Any, tmp_path: Path
) -> None:
    loaders = [DataLoader(rows(n, *empty), size) for n, empty, size in made]
    found = named(findings(tmp_path, DataLoader(rows(16), 8), CombinedLoader(loaders, mode)))
    assert found == ([] if told is None else [told])


def test_an_entry_of_validation_is_named_by_what_it_holds_where_the_batch_was_sorted(tmp_path: Path) -> None:
    val = DataLoader(rows(24, 10), 8, collate_fn=by_length)
    assert named(findings(tmp_path, DataLoader(rows(16), 8), val)) == [([10], "7 of the batch")]
