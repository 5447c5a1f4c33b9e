"""No result takes the place of another: a fit's stays, later passes and other questions have files of their own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from evaluation.erring import Says, loader, random_answers
from monitors.breaking import QUIET
from torch import Tensor

from lightning_debugkit import ErrorAnalysis, read_journal

pytestmark = pytest.mark.filterwarnings("ignore")


def trainer_of(folder: Path, *callbacks: pl.Callback, **options: Any) -> pl.Trainer:
    return pl.Trainer(default_root_dir=folder, callbacks=list(callbacks), **{**QUIET, "max_epochs": 2, **options})


def left(folder: Path) -> dict[str, Any]:
    """Every analysis of a run in which the kit did not stumble, by file."""
    assert not (troubles := read_journal(folder / "debugkit").of_kind("trouble")), troubles
    found = sorted((folder / "debugkit").glob("errors*.json"))
    return {file.name: json.loads(file.read_text()) for file in found}


def tables(folder: Path) -> set[str]:
    return {file.name for file in (folder / "debugkit").glob("*.csv")}


def confused(n: int, seed: int) -> tuple[Tensor, Tensor]:
    """Answers of which a pair is confused far more often than others."""
    logits, target = random_answers(n, 8, seed=seed, skill=2.0)
    logits[(target == seed).nonzero()[: n // 10, 0], (seed + 1) % 8] = 20.0
    return logits, target


@pytest.mark.usefixtures("with_report")
def test_a_later_validation_leaves_the_fit_s_own_as_it_is(tmp_path: Path) -> None:
    data, other = confused(300, 1), confused(200, 3)
    trainer, module = trainer_of(tmp_path, ErrorAnalysis()), Says()
    trainer.fit(module, loader(*data), loader(*data))
    own = (tmp_path / "debugkit/errors.json").read_bytes()
    table = (tmp_path / "debugkit/misclassified.csv").read_bytes()
    trainer.validate(module, loader(*other), verbose=False)
    assert (tmp_path / "debugkit/errors.json").read_bytes() == own
    assert (tmp_path / "debugkit/misclassified.csv").read_bytes() == table
    held = left(tmp_path)
    assert {name: each["n"] for name, each in held.items()} == {"errors.json": 300, "errors-validate.json": 200}
    assert (len(held["errors.json"]["history"]), held["errors-validate.json"]["history"]) == (2, [])
    assert tables(tmp_path) == {"misclassified.csv", "misclassified-validate.csv"}
    text = (tmp_path / "debugkit/report.md").read_text()
    assert text.index("300 samples") < text.index("A later validation") < text.index("200 samples")


@pytest.mark.usefixtures("with_report")
def test_each_of_many_passes_has_its_own_files_and_its_own_findings(tmp_path: Path) -> None:
    trainer, module = trainer_of(tmp_path, ErrorAnalysis()), Says()
    for seed, pass_ in enumerate([trainer.validate, trainer.validate, trainer.validate, trainer.test, trainer.test]):
        pass_(module, loader(*confused(300 + seed, seed)), verbose=False)
    names = ["errors.json", "errors-validate.json", "errors-validate-2.json", "errors-test.json", "errors-test-2.json"]
    assert {name: each["n"] for name, each in left(tmp_path).items()} == dict(zip(names, range(300, 305), strict=True))
    told = [one.evidence for one in read_journal(tmp_path / "debugkit").findings if one.rule == "confused-classes"]
    assert [(one["analysis"], one["classes"]) for one in told] == [
        (name, [seed, (seed + 1) % 8]) for seed, name in enumerate(names)
    ]
    text = (tmp_path / "debugkit/report.md").read_text()
    assert "could not be" not in text
    titles = ("300 samples", "303 samples", "A later validation", "301 samples", "302 samples", "Test 2", "304 samples")
    places = [text.index(title) for title in titles]
    assert places == sorted(places)


def test_pictures_of_one_pass_do_not_stand_for_those_of_another(tmp_path: Path) -> None:
    trainer, module = trainer_of(tmp_path, ErrorAnalysis()), Pictures()
    for shade in (0.2, 0.8):
        images = torch.full((40, 1, 8, 8), shade) * torch.rand(40, 1, 8, 8)
        trainer.validate(module, loader(images, torch.arange(40) % 2), verbose=False)
    held = left(tmp_path)
    one, other = (set(held[name]["pictures"].values()) for name in ("errors.json", "errors-validate.json"))
    assert one
    assert one & other == set()
    assert all(path.startswith("errors/validate-") for path in other)


class Pictures(Says):
    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([x.mean((1, 2, 3)), 1 - x.mean((1, 2, 3))], 1) + 0 * self.offset


class OnTwo(Says):
    """Validates on two loaders."""

    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Tensor:
        return self.loss(batch)


@pytest.mark.usefixtures("with_report")
def test_two_in_a_trainer_each_have_their_files_findings_and_memory(tmp_path: Path) -> None:
    one, other = confused(300, 1), confused(360, 3)
    both = [loader(*one), loader(*other)]
    save = pl.callbacks.ModelCheckpoint(dirpath=tmp_path / "kept", filename="two", save_on_train_epoch_end=True)
    trainer = trainer_of(
        tmp_path, ErrorAnalysis(loaders=[0]), ErrorAnalysis(loaders=[1]), save, enable_checkpointing=True
    )
    trainer.fit(OnTwo(), loader(*one), both)
    held = left(tmp_path)
    assert {name: each["n"] for name, each in held.items()} == {"errors.json": 300, "errors-2.json": 360}
    assert tables(tmp_path) == {"misclassified.csv", "misclassified-2.csv"}
    told = [one.evidence for one in read_journal(tmp_path / "debugkit").findings if one.rule == "confused-classes"]
    assert {one["analysis"]: one["classes"] for one in told} == {"errors.json": [1, 2], "errors-2.json": [3, 4]}
    text = (tmp_path / "debugkit/report.md").read_text()
    assert text.index("300 samples") < text.index("ErrorAnalysis(loaders=") < text.index("360 samples")
    again = [ErrorAnalysis(loaders=[1]), ErrorAnalysis(loaders=[0])]
    trainer = trainer_of(tmp_path / "again", *again, max_epochs=3)
    trainer.fit(OnTwo(), loader(*one), both, ckpt_path=tmp_path / "kept/two.ckpt")
    sizes = [[(moment["epoch"], moment["n"]) for moment in callback.history.moments] for callback in again]
    assert sizes == [[(epoch, n) for epoch in range(3)] for n in (360, 300)]


def test_two_that_are_asked_the_same_are_refused_by_lightning(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="more than one stateful callback"):
        trainer_of(tmp_path, ErrorAnalysis(), ErrorAnalysis(pictures=3))
