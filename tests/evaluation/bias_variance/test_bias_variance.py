"""Errors as they are, to the last sample, and what is said of them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from evaluation.rigged import Rigged, answers, read, report
from monitors.breaking import QUIET, journal
from scipy.stats import binomtest
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, TensorDataset

from lightning_debugkit import BiasVarianceReport, Severity

pytestmark = pytest.mark.filterwarnings("ignore")


def wilson(wrong: int, n: int) -> tuple[float, float]:
    """SciPy's."""
    found = binomtest(wrong, n).proportion_ci(method="wilson")
    return float(found.low), float(found.high)


def newcombe(wrong: int, n: int, before: int, m: int) -> tuple[float, float]:
    """Newcombe's method 10 from SciPy's intervals, written out."""
    (low, high), (low0, high0) = wilson(wrong, n), wilson(before, m)
    p, p0 = wrong / n, before / m
    return (
        p - p0 - math.sqrt((p - low) ** 2 + (high0 - p0) ** 2),
        p - p0 + math.sqrt((high - p) ** 2 + (p0 - low0) ** 2),
    )


def bounds(found: dict[str, float]) -> tuple[float, float]:
    return found["low"], found["high"]


def test_the_table_of_the_lecture(tmp_path: Path) -> None:
    """Goal 1, training 20, validation 27, test 28 %: avoidable bias 19, variance 7, validation overfitting 1 points."""
    found = report(tmp_path, answers(1000, 200, shuffle=True), answers(1000, 270), answers(1000, 280), goal=0.01)
    assert list(found) == ["metric", "goal", "errors", "gaps", "verdict", "next"]
    assert (found["metric"], found["goal"]) == ("error", 0.01)
    assert {name: (error["value"], error["n"]) for name, error in found["errors"].items()} == {
        "train": (0.2, 1000),
        "val": (0.27, 1000),
        "test": (0.28, 1000),
    }
    for name, wrong in (("train", 200), ("val", 270), ("test", 280)):
        assert bounds(found["errors"][name]) == pytest.approx(wilson(wrong, 1000))

    gaps = found["gaps"]
    assert {name: round(100 * gap["value"], 9) for name, gap in gaps.items()} == {
        "avoidable_bias": 19,
        "variance": 7,
        "validation_overfitting": 1,
    }
    low, high = wilson(200, 1000)
    assert bounds(gaps["avoidable_bias"]) == pytest.approx((low - 0.01, high - 0.01))
    assert bounds(gaps["variance"]) == pytest.approx(newcombe(270, 1000, 200, 1000))
    assert bounds(gaps["validation_overfitting"]) == pytest.approx(newcombe(280, 1000, 270, 1000))

    assert found["verdict"].startswith("underfitting: training error is 19 points (16.6 to 21.6) worse")
    assert found["next"][0] == "Make the model larger: with 1 trainable parameter, training error is 20 %."
    assert [(f.rule, f.severity) for f in journal(tmp_path).findings] == [
        ("underfitting", Severity.WARNING),
        ("overfitting", Severity.INFO),
    ]


def test_uneven_last_batches_and_every_sample_count_once(tmp_path: Path) -> None:
    found = report(tmp_path, answers(131, 17, size=32), answers(101, 13, size=30), answers(33, 7, size=32))
    assert {name: (round(e["value"] * e["n"]), e["n"]) for name, e in found["errors"].items()} == {
        "train": (17, 131),
        "val": (13, 101),
        "test": (7, 33),
    }


@pytest.mark.timeout(120)
@pytest.mark.usefixtures("no_process_left")
@pytest.mark.parametrize("n", [101, 3])
def test_two_processes_count_padded_samples_once(n: int, tmp_path: Path) -> None:
    found = []
    for name, options in (("alone", {}), ("both", {"strategy": "ddp_fork", "devices": 2})):
        folder = tmp_path / name
        report(folder / "fit", answers(131, 17, size=16), answers(n, 2, size=16), trainer=options)
        tester = pl.Trainer(default_root_dir=folder / "test", callbacks=[BiasVarianceReport()], **{**QUIET, **options})
        tester.test(Rigged(), answers(n + 2, 3, size=16), verbose=False)
        assert not journal(folder / "fit").of_kind("trouble") + journal(folder / "test").of_kind("trouble")
        found.append((read(folder / "fit"), read(folder / "test")))
    assert found[0] == found[1]
    fitted, tested = found[1]
    assert [fitted["errors"][name]["n"] for name in ("train", "val")] == [131, n]
    assert tested["errors"]["test"]["n"] == n + 2


def test_without_a_goal_nobody_is_said_to_underfit(tmp_path: Path) -> None:
    found = report(tmp_path, answers(1000, 300), answers(1000, 360))
    assert found["goal"] is None
    assert found["gaps"]["avoidable_bias"]["value"] == pytest.approx(0.3), "an upper bound"
    assert found["verdict"].startswith("overfitting: validation error is 6 points")
    assert found["verdict"].endswith("without a goal nobody can tell how much of it is avoidable")
    assert [f.rule for f in journal(tmp_path).findings] == ["overfitting"]
    assert found["next"][-1].startswith("State a goal")


def test_without_validation_there_is_bias_alone(tmp_path: Path) -> None:
    found = report(tmp_path, answers(1000, 300), goal=0.05)
    assert (list(found["errors"]), list(found["gaps"])) == (["train"], ["avoidable_bias"])
    assert found["verdict"].startswith("underfitting: training error is 25 points")
    alone = report(tmp_path / "alone", answers(1000, 300))
    assert alone["verdict"] == "cannot tell: only the training error is known, and there is no goal"
    assert alone["next"][0] == "Give trainer.fit a validation loader, and call trainer.test."


def test_a_goal_that_is_counted_has_bounds_of_its_own(tmp_path: Path) -> None:
    found = report(tmp_path, answers(1000, 60), answers(1000, 60), goal=(3, 100))
    assert found["goal"] == 0.03
    assert bounds(found["gaps"]["avoidable_bias"]) == pytest.approx(newcombe(60, 1000, 3, 100))
    assert found["verdict"].startswith("cannot tell yet")


def test_one_class_gives_no_verdict(tmp_path: Path) -> None:
    found = report(tmp_path, answers(100, 50), answers(100, 0, classes=1), goal=0.0)
    assert found["verdict"] == "cannot tell: all targets of the validation data are of one class, 0"
    assert journal(tmp_path).findings == []


def test_predictions_that_are_nan_are_wrong_and_said_to_be(tmp_path: Path) -> None:
    class Broken(Rigged):
        def forward(self, x: Tensor) -> Tensor:
            return torch.where((x == 2)[:, None], math.nan, super().forward(x))

    found = report(tmp_path, answers(100, 0), answers(100, 0), module=Broken())
    assert found["errors"]["val"]["value"] == 0.25
    (held,) = [m["value"] for m in journal(tmp_path).of_kind("measure") if m["name"] == "bias-variance"]
    assert "25 validation samples have predictions that are not finite; they count as wrong." in held["notes"]


def test_too_few_samples_tell_nothing_yet(tmp_path: Path) -> None:
    found = report(tmp_path, answers(40, 4), answers(30, 5), answers(30, 6), goal=0.05)
    assert found["verdict"].startswith("cannot tell yet: no gap stands out from chance")
    assert "and these samples could show one of" in found["verdict"]
    told = "cannot be seen with the 40 training samples that there are, however many validation samples are evaluated."
    assert found["next"][0].endswith(told), "there are no more training samples to evaluate"
    assert journal(tmp_path).findings == []


def test_a_negative_gap_is_shown_with_its_causes(tmp_path: Path) -> None:
    found = report(tmp_path, answers(1000, 200), answers(1000, 100), goal=0.2)
    assert found["gaps"]["variance"]["value"] == pytest.approx(-0.1)
    assert found["verdict"].startswith("goal reached")
    (held,) = [m["value"] for m in journal(tmp_path).of_kind("measure") if m["name"] == "bias-variance"]
    assert any(
        note.startswith("Overfitting is negative, -10 points: validation data are easier") for note in held["notes"]
    )


def test_exact_intervals_on_request(tmp_path: Path) -> None:
    found = report(tmp_path, answers(100, 7), answers(100, 7), interval="exact")
    expected = binomtest(7, 100).proportion_ci(method="exact")
    assert bounds(found["errors"]["val"]) == pytest.approx((expected.low, expected.high))


def test_groups_make_intervals_wider(tmp_path: Path) -> None:
    class Patients(Rigged):
        def step(self, batch: Any) -> Tensor:
            return super().step((batch["said"], batch["label"]))

    def patients() -> DataLoader[Any]:
        """20 patients of 10 images each: all are wrong, or none."""
        target = torch.arange(200) % 4
        patient = torch.arange(200) // 10
        said = torch.where(patient % 5 == 0, (target + 1) % 4, target)
        rows = [{"said": s, "label": t, "patient": int(p)} for s, t, p in zip(said, target, patient, strict=True)]
        return DataLoader(rows, batch_size=32)

    def width(**arguments: Any) -> float:
        folder = tmp_path / ("grouped" if arguments else "plain")
        error = report(folder, patients(), patients(), module=Patients(), **arguments)["errors"]["val"]
        assert (error["value"], error["n"]) == (0.2, 200)
        return float(error["high"] - error["low"])

    assert width(group="patient") > 2.5 * width(), "sqrt(10) = 3.2 times as wide, by theory"


def test_what_the_classes_explain_is_no_validation_overfitting(tmp_path: Path) -> None:
    """Class 0 is always answered wrongly; the test data have more of it."""

    def skewed(n: int, share: float) -> DataLoader[Any]:
        target = torch.where(torch.arange(n) < share * n, 0, 1 + torch.arange(n) % 3)
        return DataLoader(TensorDataset(torch.where(target == 0, 1, target), target), batch_size=64)

    found = report(tmp_path, skewed(1000, 0.1), skewed(1000, 0.1), skewed(1000, 0.3), goal=0.05)
    assert found["gaps"]["validation_overfitting"]["value"] == pytest.approx(0.2)
    assert "distribution shift: test error is 20 points" in found["verdict"]
    assert "distribution-shift" in [f.rule for f in journal(tmp_path).findings]
    held = [m["value"] for m in journal(tmp_path).of_kind("measure") if m["name"] == "bias-variance"][-1]
    assert (
        "Of the 20 points from validation to test, 20 points come from other shares of classes and 0 points from other "
        "errors within classes." in held["notes"]
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"goal": math.nan}, "BiasVarianceReport needs goal a finite number, got nan; 0.01 is an error of 1 %."),
        ({"goal": 20}, "BiasVarianceReport needs goal from 0 to 1 for the error, got 20.0; 0.01 is an error of 1 %."),
        (
            {"goal": (5, 3)},
            "BiasVarianceReport needs goal as (mistakes, samples), got (5, 3); 3 of 100 is goal=(3, 100).",
        ),
        (
            {"goal": {"val_mae": 0.3}, "metric": "val_loss"},
            "BiasVarianceReport needs goal and metric to name the same, got 'val_mae' and 'val_loss'; drop metric.",
        ),
        ({"train_dev": 1.0}, "BiasVarianceReport needs train_dev from 0 to below 1, got 1.0; 0.1 is usual."),
        ({"train_samples": 0}, "BiasVarianceReport needs train_samples >= 1, got 0; 10000 is a good start."),
        ({"trials": 0.5}, "BiasVarianceReport needs trials >= 1, got 0.5; 1 is a single run."),
        (
            {"interval": "wald"},
            "BiasVarianceReport needs interval 'wilson' or 'exact', got 'wald'; 'wilson' is usual.",
        ),
        (
            {"adapter": "no.such.path"},
            "BiasVarianceReport needs adapter to be a function or its dotted path, got 'no.such.path'; module "
            "'no.such' cannot be imported (ModuleNotFoundError: No module named 'no').",
        ),
    ],
)
def test_wrong_arguments_are_told_in_a_sentence(arguments: Any, said: str) -> None:
    with pytest.raises(ValueError) as caught:
        BiasVarianceReport(**arguments)
    assert str(caught.value) == said


def test_a_test_step_without_predictions_ends_nothing(tmp_path: Path) -> None:
    class Silent(Rigged):
        def test_step(self, batch: Any, batch_idx: int) -> None:
            self.log("test_anything", 1.0)

    class Odd(Dataset[Any]):
        def __len__(self) -> int:
            return 8

        def __getitem__(self, index: int) -> Any:
            return {"thing": torch.tensor(index)}

    found = report(tmp_path, answers(64, 4), answers(64, 4), DataLoader(Odd(), batch_size=4), module=Silent())
    assert list(found["errors"]) == ["train", "val"]
