"""Functions that train several times: they recover what is known, and go on after an interruption."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from evaluation.rigged import Rigged, answers
from monitors.breaking import QUIET
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

from lightning_debugkit import (
    BiasVarianceReport,
    bias_variance_decomposition,
    cross_validate,
    learning_curve,
    read_journal,
)

pytestmark = pytest.mark.filterwarnings("ignore")
NOISE = 0.5
SLOPE = torch.tensor([1.0, -2.0, 0.5])


class Ridge(pl.LightningModule):
    """Linear regression in closed form, shrunk: its bias, variance and noise are known."""

    def __init__(self, shrink: float) -> None:
        super().__init__()
        self.shrink = shrink
        self.weight = nn.Parameter(torch.zeros(3))

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        x, y = batch
        with torch.no_grad():
            found = torch.linalg.solve(x.T @ x + self.shrink * torch.eye(3), x.T @ y)
            self.weight.copy_(found)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return F.mse_loss(self(batch[0]), batch[1]) * 0

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_mse", F.mse_loss(self(batch[0]), batch[1]))

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.0)


class Fits:
    """A ``fit`` that counts how often it is called, and may be interrupted."""

    def __init__(self, folder: Path, make: Any, fails_at: int = -1, **arguments: Any) -> None:
        self.folder, self.make, self.fails_at, self.arguments = folder, make, fails_at, arguments
        self.calls = 0

    def __call__(self, train: Dataset[Any], val: Dataset[Any]) -> pl.Trainer:
        if self.calls == self.fails_at:
            raise KeyboardInterrupt
        self.calls += 1
        trainer = pl.Trainer(
            default_root_dir=self.folder / "fits",
            callbacks=[BiasVarianceReport(**self.arguments)],
            max_epochs=1,
            **QUIET,
        )
        trainer.fit(self.make(), DataLoader(train, batch_size=4096), DataLoader(val, batch_size=4096))
        return trainer


def line(n: int, seed: int, noise: float = NOISE) -> TensorDataset:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 3, generator=generator)
    return TensorDataset(x, x @ SLOPE + noise * torch.randn(n, generator=generator))


def test_bias_variance_and_noise_of_a_problem_with_a_closed_form(tmp_path: Path) -> None:
    """Shrunk least squares on bootstrap samples of one training set; the second road is numpy, fit by fit."""
    train, val = line(60, seed=1), line(4000, seed=2)
    truth = val.tensors[0] @ SLOPE
    fits = Fits(tmp_path, lambda: Ridge(shrink=30.0), metric="val_mse")
    found = bias_variance_decomposition(fits, 12, train=train, val=val, truth=truth, folder=tmp_path, seed=3)

    x, y = (part.double().numpy() for part in train.tensors)
    points, targets = (part.double().numpy() for part in val.tensors)
    said = []
    for model in range(12):
        rows = np.random.default_rng([3, model]).integers(0, 60, 60)
        said.append(points @ np.linalg.solve(x[rows].T @ x[rows] + 30 * np.eye(3), x[rows].T @ y[rows]))
    middle, straying = np.mean(said, axis=0), np.var(said, axis=0, ddof=1)
    expected = points @ SLOPE.double().numpy()
    assert found.variance == pytest.approx(straying.mean(), rel=1e-3)
    assert found.bias == pytest.approx(((middle - expected) ** 2 - straying / 12).mean(), rel=1e-3)
    assert found.noise == pytest.approx(((targets - expected) ** 2).mean(), rel=1e-3)
    assert found.noise == pytest.approx(NOISE**2, rel=0.1), "what was put in"
    assert found.loss == pytest.approx(np.mean([(one - targets) ** 2 for one in said]), rel=1e-3)
    # What is left is the product of noise and miss, zero in the mean over many samples.
    assert found.bias + found.variance + found.noise == pytest.approx(found.loss, abs=0.05 * found.loss)


@pytest.mark.parametrize("loss", ["zero-one", "cross-entropy"])
def test_the_other_losses_split_exactly(loss: Any, tmp_path: Path) -> None:
    class Softmax(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.net = nn.Linear(64, 10)

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            return F.cross_entropy(self.net(batch[0]), batch[1])

        def validation_step(self, batch: Any, batch_idx: int) -> None:
            self.log("val_loss", F.cross_entropy(self.net(batch[0]), batch[1]))

        def configure_optimizers(self) -> Any:
            return torch.optim.Adam(self.parameters(), lr=0.1)

    x, y = (torch.as_tensor(part) for part in load_digits(return_X_y=True))
    data = TensorDataset(x.float() / 16, y)
    train, val = torch.utils.data.Subset(data, range(300)), torch.utils.data.Subset(data, range(300, 700))
    fits = Fits(tmp_path, Softmax)
    found = bias_variance_decomposition(fits, 4, train=train, val=val, loss=loss, folder=tmp_path)
    assert found.noise is None, "nobody said what the best possible prediction is"
    assert found.bias + found.variance == pytest.approx(found.loss)
    files = sorted((tmp_path / "studies").glob("*.npz"))
    assert len(files) == 4
    if loss == "zero-one":
        wrong = [(np.load(file)["predictions"].argmax(1) != y[300:700].numpy()).mean() for file in files]
        assert found.loss == pytest.approx(np.mean(wrong))
        # Where the main prediction is wrong, straying pays: the net variance may be of either sign.
        assert found.variance_unbiased > 0
    else:
        assert found.variance > 0
        scores = [torch.as_tensor(np.load(file)["predictions"]) for file in files]
        assert found.loss == pytest.approx(np.mean([F.cross_entropy(each, y[300:700]).item() for each in scores]))


class Powers(Rigged):
    """Its error is what a power law of its training samples says: 2 / sqrt(n) above a floor of 4 %."""

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        self.rate = 0.04 + 2.0 / len(batch[0]) ** 0.5

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(torch.where(torch.arange(len(x)) < round(getattr(self, "rate", 1.0) * len(x)), 3 - x, x))


def test_a_learning_curve_finds_the_power_law(tmp_path: Path) -> None:
    train, val = answers(3600, 0).dataset, answers(4000, 0).dataset
    found = learning_curve(Fits(tmp_path, Powers), (0.05, 0.1, 0.2, 0.5, 1.0), train=train, val=val, folder=tmp_path)
    assert found.sizes == (180, 360, 720, 1800, 3600)
    assert [error.value for error in found.val] == pytest.approx([0.04 + 2 / n**0.5 for n in found.sizes], abs=2e-4)
    assert found.law is not None
    assert found.law.exponent == pytest.approx(0.5, abs=0.03)
    assert found.law.floor == pytest.approx(0.04, abs=0.005)
    assert found.gain is not None
    assert found.gain.value == pytest.approx(2 / 3600**0.5 - 2 / 7200**0.5, rel=0.1)
    assert found.verdict.startswith("twice the 3,600 training samples would take 0.98 points (0.9")


def test_too_few_points_make_no_curve(tmp_path: Path) -> None:
    found = learning_curve(
        Fits(tmp_path, Powers), (0.5, 1.0), train=answers(200, 0).dataset, val=answers(100, 0).dataset, folder=tmp_path
    )
    assert (found.law, found.gain) == (None, None)
    assert found.verdict.endswith("with 200 samples; four sizes would make a curve")


def test_folds_hold_every_sample_out_once(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []

    class Watched(Fits):
        def __call__(self, train: Any, val: Any) -> pl.Trainer:
            assert not set(train.indices) & set(val.indices)
            assert len(train) + len(val) == 202
            classes = torch.bincount(val.dataset.tensors[1][val.indices], minlength=4)
            assert int(classes.max() - classes.min()) <= 1, "stratified"
            seen.extend((index, 0) for index in val.indices)
            return super().__call__(train, val)

    data = answers(202, 50).dataset
    found = cross_validate(Watched(tmp_path, Rigged, goal=0.01), 5, data=data, folder=tmp_path)
    assert sorted(index for index, _ in seen) == list(range(202))
    values = [fold["val"].value for fold in found.folds]
    assert found.mean.value == pytest.approx(np.mean(values))
    assert found.spread == pytest.approx(np.std(values, ddof=1))
    assert all(verdict.startswith("underfitting: training error is") for verdict in found.verdicts)
    assert len(found.verdicts) == 5


def test_after_an_interruption_the_same_call_goes_on(tmp_path: Path) -> None:
    data = answers(200, 50).dataset
    first, second, third = (Fits(tmp_path / name, Rigged, fails_at=at) for name, at in (("a", 2), ("b", -1), ("c", -1)))
    with pytest.raises(KeyboardInterrupt):
        cross_validate(first, 4, data=data, folder=tmp_path)
    found = cross_validate(second, 4, data=data, folder=tmp_path)
    assert (first.calls, second.calls) == (2, 2)
    again = cross_validate(third, 4, data=data, folder=tmp_path)
    assert third.calls == 0, "all is known"
    assert again.mean == found.mean
    other = cross_validate(third, 5, data=data, folder=tmp_path)
    assert (third.calls, len(other.folds)) == (5, 5), "five folds are another series"


def test_results_are_in_one_report(tmp_path: Path) -> None:
    data, val = answers(200, 50).dataset, answers(100, 20).dataset
    cross_validate(Fits(tmp_path, Rigged), 3, data=data, folder=tmp_path)
    learning_curve(Fits(tmp_path, Powers), (0.2, 0.4, 0.7, 1.0), train=data, val=val, folder=tmp_path)
    bias_variance_decomposition(Fits(tmp_path, Rigged), 2, train=data, val=val, folder=tmp_path)
    text = (tmp_path / "report.md").read_text()
    assert "<b>Bias and variance</b>" in text
    for said in (
        "Learning curve: ",
        "Cross-validation: validation error is",
        "Bias and variance of retrained models: of a mean",
    ):
        assert said in text
    assert text.startswith("# Of a mean zero-one loss of "), "the last series gives the title"
    assert (tmp_path / "figures" / "learning-curve.svg").exists()
    assert [event["name"] for event in read_journal(tmp_path).of_kind("measure")] == [
        "cross-validation",
        "learning-curve",
        "bias-variance-decomposition",
    ]
    assert not list((tmp_path / "fits").rglob("report.html")), "a page for each fit would be a waste"


def test_the_folder_of_a_run_keeps_its_own_title(tmp_path: Path) -> None:
    data, val = answers(200, 50).dataset, answers(100, 20).dataset
    Fits(tmp_path, Rigged)(data, val)
    folder = tmp_path / "fits" / "debugkit"
    cross_validate(Fits(tmp_path / "other", Rigged), 3, data=data, folder=folder)
    text = (folder / "report.md").read_text()
    assert text.startswith("# No fault found in 1 step.")
    assert "Cross-validation: " in text
    assert "Parts of the error" in text


def test_a_progress_bar_counts_the_fits(tmp_path: Path, capsys: Any) -> None:
    cross_validate(Fits(tmp_path, Rigged), 3, data=answers(60, 6).dataset, folder=tmp_path)
    shown = capsys.readouterr().err
    assert "cross-validation: 100%" in shown
    assert "3/3" in shown


def test_a_line_that_was_torn_is_trained_again(tmp_path: Path) -> None:
    data = answers(60, 6).dataset
    cross_validate(Fits(tmp_path, Rigged), 3, data=data, folder=tmp_path)
    (file,) = (tmp_path / "studies").glob("*.jsonl")
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join(lines[:2]) + lines[2][:20])
    again = Fits(tmp_path, Rigged)
    cross_validate(again, 3, data=data, folder=tmp_path)
    assert again.calls == 1
    assert sum(bool(line.strip()) and _whole(line) for line in file.read_text().splitlines()) == 3


def _whole(line: str) -> bool:
    try:
        json.loads(line)
    except ValueError:
        return False
    return True


def test_a_fit_that_returns_no_trainer_is_told(tmp_path: Path) -> None:
    with pytest.raises(TypeError) as caught:
        cross_validate(lambda train, val: None, 3, data=answers(60, 6).dataset, folder=tmp_path)
    assert str(caught.value) == (
        "cross_validate needs fit to return a Trainer with a BiasVarianceReport, got NoneType; end fit with `return "
        "trainer`, and give that Trainer callbacks=[BiasVarianceReport()]."
    )


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (
            lambda fit, data: learning_curve(fit, (0.0, 1.0), train=data, val=data),
            "learning_curve needs fractions above 0 and at most 1, got (0.0, 1.0); (0.25, 0.5, 1) is one.",
        ),
        (
            lambda fit, data: cross_validate(fit, 1, data=data),
            "cross_validate needs k from 2 to 60, the samples there are, got 1; 5 is usual.",
        ),
        (
            lambda fit, data: bias_variance_decomposition(fit, 1, train=data, val=data),
            "bias_variance_decomposition needs n >= 2 models, got 1; 10 is a good start.",
        ),
    ],
)
def test_wrong_arguments_are_told_in_a_sentence(call: Any, said: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError) as caught:
        call(Fits(tmp_path, Rigged), answers(60, 6).dataset)
    assert str(caught.value) == said
