"""The split of the test error: the lectures' tables, what always adds up, and simulated runs."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stats.coverage import RUNS, holds

from lightning_debugkit.stats.error_gaps import GAPS, decompose
from lightning_debugkit.stats.intervals import Interval, bare_interval, exact, wilson

NAMES = ("train", "train_dev", "val", "test")
rates = st.floats(0, 100)


def points(goal: float | None, **errors: float) -> dict[str, float]:
    known = {name: exact(error) for name, error in errors.items()}
    return {name: gap.value for name, gap in decompose(known, None if goal is None else exact(goal)).items()}


def test_the_table_of_full_stack_deep_learning() -> None:
    """Goal 1 %, training 20 %, validation 27 %, test 28 %."""
    assert points(1, train=20, val=27, test=28) == {"avoidable_bias": 19, "variance": 7, "validation_overfitting": 1}


@pytest.mark.parametrize(
    ("errors", "gaps"), [((1, 5, 5), (1, 4, 0)), ((10, 11, 12), (10, 1, 1)), ((10, 11, 20), (10, 1, 9))]
)
def test_the_tables_of_machine_learning_yearning(errors: tuple[int, ...], gaps: tuple[int, ...]) -> None:
    """Chapter 41: human-level error 0; training, training dev and dev error."""
    train, train_dev, val = errors
    found = points(0, train=train, train_dev=train_dev, val=val)
    assert found == dict(zip(GAPS, gaps, strict=False))


@settings(deadline=None)
@given(goal=rates, errors=st.tuples(rates, rates, rates, rates), higher=st.booleans())
def test_the_gaps_add_up_to_the_last_error_less_the_goal(goal: float, errors: tuple[float, ...], higher: bool) -> None:
    known = dict(zip(NAMES, map(exact, errors), strict=True))
    gaps = decompose(known, exact(goal), higher_is_better=higher)
    assert tuple(gaps) == GAPS
    sign = -1 if higher else 1
    assert sum(gap.value for gap in gaps.values()) == pytest.approx(sign * (errors[-1] - goal), abs=1e-9)


@pytest.mark.parametrize(
    ("there", "gaps"),
    [
        ({"train", "val"}, ["variance"]),
        ({"val", "test"}, ["validation_overfitting"]),
        ({"train", "test"}, ["variance"]),
        ({"train", "train_dev"}, ["variance"]),
        ({"train_dev", "test"}, ["distribution_shift"]),
        ({"val"}, []),
        (set(), []),
    ],
)
def test_what_was_not_measured_has_no_gap(there: set[str], gaps: list[str]) -> None:
    assert list(decompose({name: exact(0.1) for name in NAMES if name in there})) == gaps


def test_a_goal_alone_is_no_yardstick_of_validation() -> None:
    """Without the training error, bias and variance cannot be told apart."""
    assert decompose({"val": exact(0.2)}, goal=exact(0.1)) == {}


def test_of_scores_the_gap_is_positive_where_they_fall() -> None:
    n = 400
    scores = {"train": wilson(380, n), "val": wilson(300, n)}
    errors = {"train": wilson(20, n), "val": wilson(100, n)}
    gap, same = decompose(scores, higher_is_better=True)["variance"], decompose(errors)["variance"]
    assert (gap.value, gap.low, gap.high) == pytest.approx((same.value, same.low, same.high))
    assert (gap.frm, gap.to, gap.side) == ("train", "val", "above")
    assert gap.before is scores["train"]


def test_a_negative_gap_is_not_clipped() -> None:
    gap = decompose({"train": wilson(300, 1_000), "val": wilson(100, 1_000)})["variance"]
    assert gap.value == pytest.approx(-0.2)
    assert gap.side == "below"


@pytest.mark.parametrize("unknown", [bare_interval(0.2), bare_interval(math.nan)])
def test_an_error_of_unknown_uncertainty_tells_nothing(unknown: Interval) -> None:
    gaps = decompose({"train": wilson(1, 100), "val": unknown, "test": wilson(90, 100)})
    assert [gap.side for gap in gaps.values()] == ["unknown", "unknown"]


def test_the_names_of_the_errors_are_fixed() -> None:
    with pytest.raises(ValueError, match=r"decompose needs errors of train, train_dev, val or test, got \['dev'\]"):
        decompose({"dev": exact(0.1)})


RATES = {"goal": 0.01, "train": 0.2, "train_dev": 0.24, "val": 0.27, "test": 0.28}


@pytest.mark.parametrize("samples", [(10_000, 1_000, 1_000, 1_000), (2_000, 300, 500, 2_000), (1_000, 250, 250, 250)])
def test_each_gap_of_a_run_is_held_in_95_of_100_runs(samples: tuple[int, ...]) -> None:
    """1,000 runs with the lecture's rates; the goal was measured too, on 1,000 samples."""
    rng = np.random.default_rng(6)
    sizes = dict(zip(NAMES, samples, strict=True))
    runs = []
    for _ in range(RUNS):
        errors = {name: wilson(int(rng.binomial(n, RATES[name])), n) for name, n in sizes.items()}
        runs.append(decompose(errors, goal=wilson(int(rng.binomial(1_000, RATES["goal"])), 1_000)))
    steps = list(RATES.values())
    for name, before, after in zip(GAPS, steps, steps[1:], strict=False):
        assert 0.93 <= holds((run[name].interval for run in runs), after - before) <= 0.97, name


def test_no_step_no_verdict_in_95_of_100_runs() -> None:
    """Where all sets are equally hard, each gap lies across zero, but for the 5 % that the level allows."""
    rng = np.random.default_rng(7)
    runs = [decompose({name: wilson(int(rng.binomial(1_000, 0.1)), 1_000) for name in NAMES}) for _ in range(RUNS)]
    for name in GAPS[1:]:
        sides = [run[name].side for run in runs]
        assert sides.count("above") <= 0.035 * RUNS
        assert sides.count("below") <= 0.035 * RUNS
