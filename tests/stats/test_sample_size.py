"""What gap the samples can show: simulated runs, the intervals themselves, and the normal approximation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_debugkit.stats.intervals import Interval, bare_interval, difference_interval, exact, wilson
from lightning_debugkit.stats.running_mean import RunningMean
from lightning_debugkit.stats.sample_size import (
    samples_for_gap,
    samples_for_rate_gap,
    smallest_visible_gap,
    smallest_visible_rate_gap,
)


def seen(rate: float, gap: float, n_after: int, n_before: int | None, runs: int = 2_000) -> float:
    """The share of simulated runs whose gap lies above zero."""
    rng = np.random.default_rng(0)
    after = [wilson(int(k), n_after) for k in rng.binomial(n_after, rate + gap, runs)]
    if n_before is None:
        before = [exact(rate)] * runs
    else:
        before = [wilson(int(k), n_before) for k in rng.binomial(n_before, rate, runs)]
    return float(np.mean([difference_interval(a, b).side == "above" for a, b in zip(after, before, strict=True)]))


@pytest.mark.parametrize(
    ("rate", "n_after", "n_before"),
    [(0.0, 50, None), (0.0, 200, 5_000), (0.05, 100, 100), (0.05, 1_000, None), (0.2, 500, 2_000), (0.5, 300, 300)],
)
def test_the_smallest_visible_gap_is_seen_in_80_of_100_runs(rate: float, n_after: int, n_before: int | None) -> None:
    gap = smallest_visible_rate_gap(rate, n_after, n_before)
    assert seen(rate, gap, n_after, n_before) == pytest.approx(0.8, abs=0.03)


@pytest.mark.parametrize(("n", "points"), [(5_000, 1.2), (10_000, 0.86), (50_000, 0.39)])
def test_of_many_samples_the_gap_is_that_of_the_normal_approximation(n: int, points: float) -> None:
    """Which takes both errors for equal, 5 % here: a little too small, the later being larger."""
    gap = smallest_visible_rate_gap(0.05, n, n)
    assert points / 100 < gap < 1.08 * points / 100
    later = 0.05 + gap
    plain = (1.959964 + 0.841621) * math.sqrt((0.05 * 0.95 + later * (1 - later)) / n)
    assert gap == pytest.approx(plain, rel=0.01)


@settings(max_examples=30, deadline=None)
@given(rate=st.floats(0, 0.6), gap=st.floats(0.02, 0.3), ratio=st.sampled_from([math.inf, 1.0, 4.0]))
def test_samples_and_gap_are_inverse(rate: float, gap: float, ratio: float) -> None:
    """Chances rise by steps with the samples, so that fewer may do by luck; but not a fifth fewer."""
    n = samples_for_rate_gap(rate, gap, ratio)
    assert n is not None
    before = None if math.isinf(ratio) else round(ratio * n)
    assert smallest_visible_rate_gap(rate, n, before) <= gap + 1e-6
    if n > 50:
        fewer = int(0.8 * n)
        assert smallest_visible_rate_gap(rate, fewer, before and round(ratio * fewer)) > gap


@pytest.mark.parametrize(("rate", "gap"), [(0.1, 0.0), (0.1, -0.1), (0.9, 0.2), (0.1, math.nan), (0.1, 1e-6)])
def test_no_number_of_samples_shows_no_gap(rate: float, gap: float) -> None:
    assert samples_for_rate_gap(rate, gap) is None


def test_one_sample_shows_nothing_against_an_error_of_half() -> None:
    assert math.isnan(smallest_visible_rate_gap(0.5, n_after=1))


def test_more_samples_show_smaller_gaps() -> None:
    gaps = [smallest_visible_rate_gap(0.1, n, 10 * n) for n in (100, 400, 1_600, 6_400)]
    assert gaps == sorted(gaps, reverse=True)
    assert gaps[0] / gaps[-1] == pytest.approx(8, rel=0.25)


def test_of_any_metric_the_visible_gap_is_seen_in_80_of_100_runs() -> None:
    rng = np.random.default_rng(1)
    first, second = rng.normal(1.0, 0.3, (2_000, 200)), rng.normal(1.0, 0.5, (2_000, 100))
    gap = float(
        np.mean(
            [
                smallest_visible_gap(RunningMean.of(a).interval(), RunningMean.of(b).interval())
                for a, b in zip(first[:100], second[:100], strict=True)
            ]
        )
    )
    found = [
        difference_interval(RunningMean.of(b + gap).interval(), RunningMean.of(a).interval()).side
        for a, b in zip(first, second, strict=True)
    ]
    assert found.count("above") / 2_000 == pytest.approx(0.8, abs=0.03)


def test_both_sets_grow_alike() -> None:
    before, after = Interval(1.0, 0.9, 1.1, 400), Interval(1.2, 1.0, 1.4, 100)
    gap = smallest_visible_gap(before, after) / 3
    assert samples_for_gap(gap, before, after) == (3_600, 900)
    assert samples_for_gap(gap, exact(1.0), after)[0] is None


@pytest.mark.parametrize(("gap", "after"), [(0.0, Interval(1.2, 1.0, 1.4, 100)), (0.1, bare_interval(1.2, 100))])
def test_without_gap_or_uncertainty_there_is_no_advice(gap: float, after: Interval) -> None:
    assert samples_for_gap(gap, exact(1.0), after) == (None, None)
