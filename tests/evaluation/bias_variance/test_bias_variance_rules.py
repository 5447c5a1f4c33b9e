"""From errors to a verdict: what is said first, how loudly, and when nothing is said."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from lightning_debugkit import Severity
from lightning_debugkit.core.finding import Where
from lightning_debugkit.evaluation.bias_variance.advice import onset, optimism, still_falling
from lightning_debugkit.evaluation.bias_variance.bias_variance_rules import bias_variance_findings, conclude
from lightning_debugkit.evaluation.bias_variance.error_counts import Counts
from lightning_debugkit.evaluation.bias_variance.logged_metric import names_for
from lightning_debugkit.evaluation.bias_variance.measured_case import BiasVarianceCase, EarlierErrors
from lightning_debugkit.evaluation.bias_variance.training_facts import TrainingFacts
from lightning_debugkit.evaluation.bias_variance.units_of_error import Unit
from lightning_debugkit.stats.intervals import exact, wilson


def case(n: int = 2000, goal: float | None = 0.0, **percent: float) -> BiasVarianceCase:
    """Errors in percent, each on ``n`` samples."""
    errors = {name: wilson(round(n * value / 100), n) for name, value in percent.items()}
    return BiasVarianceCase(Unit("error"), errors, None if goal is None else exact(goal))


def told(case: BiasVarianceCase) -> list[tuple[str, Severity]]:
    return [(found.rule, found.severity) for found in bias_variance_findings(case, conclude(case), Where(3, 40))]


BOTH = [("underfitting", Severity.WARNING), ("overfitting", Severity.WARNING)]


@pytest.mark.parametrize(
    ("errors", "first"),
    [
        ({"train": 1, "train_dev": 5, "val": 5}, "overfitting"),  # Machine Learning Yearning, p. 79
        ({"train": 10, "train_dev": 11, "val": 12}, "underfitting"),
        ({"train": 10, "train_dev": 11, "val": 20}, "underfitting"),
        ({"train": 1, "train_dev": 2, "val": 10}, "distribution shift"),
        ({"train": 2, "val": 30}, "overfitting"),  # bias is there, too, but smaller beyond doubt
    ],
)
def test_the_vectors_of_the_books(errors: dict[str, float], first: str) -> None:
    assert conclude(case(**errors)).verdict.startswith(f"{first}: ")


def test_bias_and_shift_of_like_size_are_both_pressing() -> None:
    found = dict(told(case(train=10, train_dev=10, val=20)))
    assert found == {"underfitting": Severity.WARNING, "distribution-shift": Severity.WARNING}


def test_a_gap_that_is_smaller_beyond_doubt_is_worth_knowing_only() -> None:
    assert told(case(goal=0.01, train=20, val=27, test=28)) == [
        ("underfitting", Severity.WARNING),
        ("overfitting", Severity.INFO),
    ]


def test_without_a_goal_nothing_is_pressing() -> None:
    assert told(case(goal=None, train=5, val=30)) == [("overfitting", Severity.INFO)]


def test_a_goal_that_may_be_reached_is_no_warning() -> None:
    """Variance is beyond doubt, but the goal is not missed beyond doubt."""
    assert told(case(goal=0.05, train=1, val=5.2)) == [("overfitting", Severity.INFO)]


def test_a_goal_reached_is_said_so() -> None:
    found = conclude(case(goal=0.10, train=1, val=5))
    assert found.verdict == (
        "goal reached: validation error is 5 % (4.1 to 6); what remains is overfitting: validation error is 4 points "
        "(3 to 5.1) worse than training error"
    )


@pytest.mark.parametrize("seed", range(200))
def test_a_model_at_its_goal_is_hardly_ever_accused(seed: int) -> None:
    """All errors are draws of one rate, the goal: two of 40 gaps beyond a bound are what 95 % means, no warning is."""
    draw = np.random.default_rng(seed)
    errors = {name: wilson(int(draw.binomial(500, 0.05)), 500) for name in ("train", "val", "test")}
    here = BiasVarianceCase(Unit("error"), errors, exact(0.05))
    assert len(conclude(here).told) <= 2


def test_how_often_a_model_at_its_goal_is_warned_of() -> None:
    warned = 0
    for seed in range(1000):
        draw = np.random.default_rng(seed)
        errors = {name: wilson(int(draw.binomial(500, 0.05)), 500) for name in ("train", "val", "test")}
        warned += bool(conclude(BiasVarianceCase(Unit("error"), errors, exact(0.05))).pressing)
    assert warned / 1000 < 0.03, "2.5 % by the test of the last error against the goal"


def test_intervals_of_errors_and_gaps_hold_the_truth_in_95_of_100_runs() -> None:
    rates, sizes = {"train": 0.2, "train_dev": 0.22, "val": 0.27, "test": 0.28}, (1000, 400, 700, 1000)
    truth = {
        "avoidable_bias": 0.19,
        "variance": 0.02,
        "distribution_shift": 0.05,
        "validation_overfitting": 0.01,
    }
    draw, runs = np.random.default_rng(0), 1000
    held: dict[str, int] = dict.fromkeys([*rates, *truth], 0)
    for _ in range(runs):
        counts = {
            name: Counts(wrong=int(draw.binomial(n, rate)), size=n)
            for (name, rate), n in zip(rates.items(), sizes, strict=True)
        }
        here = BiasVarianceCase(Unit("error"), {name: count.estimate() for name, count in counts.items()}, exact(0.01))
        for name, error in here.errors.items():
            held[name] += error.low <= rates[name] <= error.high
        for name, gap in here.gaps.items():
            held[name] += gap.low <= truth[name] <= gap.high
    assert {name: 0.93 <= hits / runs <= 0.97 for name, hits in held.items()} == dict.fromkeys(held, True), held


def test_higher_may_be_better() -> None:
    scores = {"train": wilson(800, 1000), "val": wilson(730, 1000)}
    here = BiasVarianceCase(Unit("accuracy"), scores, exact(0.99), ideal=1.0, higher_is_better=True)
    assert {name: round(gap.value, 9) for name, gap in here.gaps.items()} == {"avoidable_bias": 0.19, "variance": 0.07}
    assert [rule for rule, _ in told(here)] == ["underfitting", "overfitting"]


def test_what_the_run_does_already_is_not_advised() -> None:
    def advice(**facts: Any) -> str:
        plain = case(train=1, val=20)
        return " ".join(
            conclude(BiasVarianceCase(plain.unit, plain.errors, plain.goal, facts=TrainingFacts(**facts))).next
        )

    bare, full = advice(augmentation=False), advice(norms=2, augmentation=True, dropout=0.3, weight_decay=0.1)
    for text in (
        "Add normalisation layers",
        "Augment the training data",
        "no dropout and its optimizer no weight decay",
    ):
        assert text in bare
        assert text not in full
    assert "Regularise more: dropout is 0.3, weight decay 0.1." in full


def test_what_holds_the_training_error_up_is_named() -> None:
    plain = case(train=20, val=20)
    found = conclude(
        BiasVarianceCase(
            plain.unit, plain.errors, plain.goal, facts=TrainingFacts(dropout=0.5, weight_decay=0.01, frozen=0.25)
        )
    )
    assert "Regularise less: there is a dropout of 0.5 and a weight decay of 0.01." in found.next
    assert "Train more of the model: 25 % of its parameters are frozen." in found.next


def past(*train: float, val: float = 30.0) -> tuple[EarlierErrors, ...]:
    return tuple(
        EarlierErrors(epoch, 10 * epoch, {"train": wilson(round(20 * t), 2000), "val": wilson(round(20 * val), 2000)})
        for epoch, t in enumerate(train)
    )


def test_a_training_error_that_still_falls_asks_for_longer_training() -> None:
    falling = BiasVarianceCase(
        Unit("error"), case(train=20, val=21).errors, exact(0.0), past=past(60, 50, 40, 35, 30, 27, 24, 20)
    )
    flat = BiasVarianceCase(Unit("error"), falling.errors, exact(0.0), past=past(60, 40, 25, 20, 20, 20, 20, 20))
    assert still_falling(falling) == (0.27, 0.2)
    assert conclude(falling).next[0].startswith("Train longer: training error still fell from 27 % to 20 %")
    assert still_falling(flat) is None
    assert not conclude(flat).next[0].startswith("Train longer")


def test_where_variance_set_in() -> None:
    here = BiasVarianceCase(Unit("error"), case(train=5, val=30).errors, past=past(31, 30, 29, 22, 15, 10, 5))
    assert onset(here) == 3
    assert "Variance has been beyond doubt since epoch 3." in conclude(here).notes
    assert onset(BiasVarianceCase(Unit("error"), here.errors, past=past(20, 30, 30))) is None, "it closed again"


def test_the_best_of_many_models_looks_better_than_it_is() -> None:
    plain = case(n=500, train=10, val=10, test=15)
    here = BiasVarianceCase(plain.unit, plain.errors, plain.goal, choices=50)
    # The mean of the largest of 50 standard normals is 2.249; the standard error of 10 % of 500 is 1.34 points.
    assert optimism(here) == pytest.approx(2.249 * (0.1 * 0.9 / 500) ** 0.5, rel=0.02)
    assert any("best of 50 models" in note and "up to 3 points" in note for note in conclude(here).notes)
    assert optimism(plain) == 0.0


def test_a_loader_of_few_is_told_how_many_it_takes() -> None:
    found = conclude(case(n=30, train=10, val=20))
    assert found.told == ["avoidable_bias"]
    few = conclude(case(n=30, goal=0.1, train=10, val=20))
    assert few.verdict.startswith(
        "cannot tell yet: no gap stands out from chance; the largest, validation error against "
    )
    assert few.next[0].startswith("Evaluate about ")


def test_a_logged_name_is_looked_for_under_other_splits() -> None:
    assert names_for("val_mae", "test") == ["val_mae", "test_mae", "mae"]
    assert names_for("valid/acc", "train") == ["valid/acc", "train/acc", "acc"]
    assert names_for("mae", "test") == ["mae"]
