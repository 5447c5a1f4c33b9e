"""Whose samples an error is of: a part of the training data held out, several loaders, streams."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from evaluation.rigged import Rigged, answers, report
from monitors.breaking import QUIET, journal
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from lightning_debugkit import BiasVarianceReport, GradientAnomalyDetector

pytestmark = pytest.mark.filterwarnings("ignore")


def test_a_bounded_part_of_the_training_data_is_the_same_each_time(tmp_path: Path) -> None:
    callback = BiasVarianceReport(train_samples=50)
    report(tmp_path, answers(200, 40, shuffle=True), answers(64, 6), callback=callback, trainer={"max_epochs": 3})
    found = [moment["errors"]["train"] for moment in callback.memory.moments]
    assert [error[3] for error in found] == [50, 50, 50]
    assert found[0] == found[1] == found[2], "this model never changes its answers"


def test_a_part_of_the_training_data_is_held_out(tmp_path: Path) -> None:
    class Remembers(Rigged):
        def __init__(self) -> None:
            super().__init__(classes=200)
            self.trained: set[int] = set()

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            self.trained |= set(batch[1].tolist())
            return super().training_step(batch, batch_idx)

    module, callback = Remembers(), BiasVarianceReport(train_dev=0.25, goal=0.0)
    train = answers(200, 40, classes=200, shuffle=True)
    dataset, loaded = train.dataset, (train.dataset, train.sampler, train.batch_sampler)
    found = report(
        tmp_path, train, answers(200, 90, classes=200), module=module, callback=callback, trainer={"max_epochs": 3}
    )
    assert len(module.trained) == 150, "the same quarter is left out in every epoch"
    held = [i for i in range(200) if i not in module.trained]
    said, target = dataset.tensors
    wrong = int((said[held] != target[held]).sum())
    errors = found["errors"]
    assert (errors["train_dev"]["value"] * 50, errors["train_dev"]["n"]) == (pytest.approx(wrong), 50)
    assert (errors["train"]["value"] * 150, errors["train"]["n"]) == (pytest.approx(40 - wrong), 150)
    assert set(found["gaps"]) == {"avoidable_bias", "variance", "distribution_shift"}
    assert found["gaps"]["distribution_shift"]["value"] == pytest.approx(0.45 - wrong / 50)
    assert (train.dataset, train.sampler, train.batch_sampler) == loaded, "the user's loader is whole again"
    assert len(train.sampler) == 200
    assert callback.facts.samples == 150


def test_a_part_held_out_leaves_dataset_indices_as_they_are(tmp_path: Path) -> None:
    class Breaks(Rigged):
        """Its loss is NaN for sample 77 of the data set."""

        def step(self, batch: Any) -> Tensor:
            return super().step((batch[0] % 4, batch[1] % 4)) * torch.where((batch[1] == 77).any(), math.nan, 1.0)

    target = torch.arange(200)
    loader = DataLoader(TensorDataset(target, target), batch_size=16, shuffle=True)
    detector = GradientAnomalyDetector(action="warn")
    pl.seed_everything(1, verbose=False)
    trainer = pl.Trainer(
        default_root_dir=tmp_path, max_epochs=1, callbacks=[detector, BiasVarianceReport(train_dev=0.1)], **QUIET
    )
    trainer.fit(Breaks(), loader)
    told = [finding for finding in journal(tmp_path).findings if finding.rule.startswith("nonfinite")]
    assert told[0].evidence["dataset_indices"] == [77]


@pytest.mark.timeout(120)
@pytest.mark.usefixtures("no_process_left")
def test_two_processes_hold_the_same_part_out(tmp_path: Path) -> None:
    found = [
        report(tmp_path / name, answers(200, 40), answers(60, 6), train_dev=0.25, trainer=options)["errors"]
        for name, options in (("alone", {}), ("both", {"strategy": "ddp_fork", "devices": 2}))
    ]
    assert found[0] == found[1]


def test_a_loader_that_cannot_be_split_is_told(tmp_path: Path) -> None:
    data = answers(64, 4).dataset
    sampler = torch.utils.data.WeightedRandomSampler([1.0] * 64, 64)
    with pytest.raises(ValueError) as caught:
        report(tmp_path, DataLoader(data, sampler=sampler), answers(64, 4), train_dev=0.25)
    assert str(caught.value) == (
        "BiasVarianceReport needs one training DataLoader with a plain sampler to hold train_dev out, got "
        "WeightedRandomSampler; hold a part out yourself and name its loader in roles."
    )


def test_several_validation_loaders_have_their_roles(tmp_path: Path) -> None:
    class Several(Rigged):
        def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
            self.step(batch)

    loaders = [answers(100, 30), answers(80, 16), answers(60, 3)]
    found = report(tmp_path, answers(64, 8), loaders, module=Several(), roles=["val", "train_dev", "hard"], goal=0.0)
    assert {name: (round(e["value"] * e["n"]), e["n"]) for name, e in found["errors"].items()} == {
        "train": (8, 64),
        "train_dev": (16, 80),
        "val": (30, 100),
        "hard": (3, 60),
    }
    assert found["gaps"]["distribution_shift"]["value"] == pytest.approx(0.1)
    usual = report(tmp_path / "usual", answers(64, 8), loaders, module=Several())
    assert list(usual["errors"]) == ["train", "val", "val_1", "val_2"]


def test_a_loader_with_the_transforms_of_validation_may_be_named(tmp_path: Path) -> None:
    class Owns(Rigged):
        def plain_loader(self) -> DataLoader[Any]:
            return answers(40, 10)

    found = report(tmp_path, answers(64, 8), answers(64, 8), module=Owns(), train_loader="plain_loader")
    assert (found["errors"]["train"]["value"], found["errors"]["train"]["n"]) == (0.25, 40)


def test_a_stream_has_no_training_error_and_says_so(tmp_path: Path) -> None:
    class Stream(torch.utils.data.IterableDataset[Any]):
        def __iter__(self) -> Any:
            return iter(answers(64, 4).dataset)

    found = report(tmp_path, DataLoader(Stream(), batch_size=16), answers(64, 4))
    assert list(found["errors"]) == ["val"]
    held = [m["value"] for m in journal(tmp_path).of_kind("measure") if m["name"] == "bias-variance"][-1]
    assert held["notes"][0] == (
        "The train error is not measured: the training data are a stream that cannot be read twice; give train_loader."
    )
