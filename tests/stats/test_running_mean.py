"""Means in pieces against numpy, their intervals against scipy and by simulation."""

from __future__ import annotations

import math
from functools import reduce

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import t
from stats.coverage import RUNS, holds

from lightning_debugkit.stats.running_mean import RunningMean

pieces = st.lists(st.lists(st.floats(-1e4, 1e4), max_size=8), min_size=1, max_size=6)


@settings(deadline=None)
@given(pieces=pieces)
def test_moments_of_uneven_batches_are_those_of_all_samples(pieces: list[list[float]]) -> None:
    values = [value for piece in pieces for value in piece]
    merged = reduce(RunningMean.merge, map(RunningMean.of, pieces))
    assert merged.n == len(values)
    if values:
        assert merged.mean == pytest.approx(np.mean(values), abs=1e-8)
        assert merged.m2 == pytest.approx(np.var(values) * len(values), rel=1e-9, abs=1e-6)


def test_the_spread_survives_a_large_mean() -> None:
    """The sum of squares less the square of the sum would leave nothing of it in double precision."""
    values = 1e9 + np.arange(10.0)
    halves = RunningMean.of(values[:3]).merge(RunningMean.of(values[3:]))
    assert halves.variance == pytest.approx(np.arange(10.0).var(ddof=1))


def test_the_interval_is_that_of_students_t() -> None:
    values = np.random.default_rng(0).exponential(size=12)
    reference = t.interval(0.9, 11, values.mean(), values.std(ddof=1) / math.sqrt(12))
    found = RunningMean.of(torch.tensor(values)).interval(0.9)
    assert (found.low, found.high) == pytest.approx(reference, rel=1e-9)
    assert found.n == 12


@pytest.mark.parametrize(("n", "population"), [(8, None), (1_000, None), (400, 500)])
def test_the_interval_of_a_mean_holds_it_in_95_of_100_runs(n: int, population: int | None) -> None:
    rng = np.random.default_rng(3)
    whole = rng.normal(2.0, 0.5, population or 1)
    runs = [rng.normal(2.0, 0.5, n) if population is None else rng.choice(whole, n, replace=False) for _ in range(RUNS)]
    truth = 2.0 if population is None else float(whole.mean())
    assert 0.93 <= holds((RunningMean.of(run).interval(population=population) for run in runs), truth) <= 0.97


def test_losses_of_skewed_distribution_are_held_too_where_samples_are_many() -> None:
    rng = np.random.default_rng(4)
    runs = rng.lognormal(0.0, 1.0, (RUNS, 2_000))
    assert 0.93 <= holds((RunningMean.of(run).interval() for run in runs), math.exp(0.5)) <= 0.97


def test_the_mean_of_all_there_are_is_known() -> None:
    found = RunningMean.of([1.0, 2.0, 6.0]).interval(population=3)
    assert found.low == found.value == found.high == 3.0


@pytest.mark.parametrize(("values", "value"), [([], math.nan), ([5.0], 5.0), ([[5.0]], 5.0)])
def test_one_sample_tells_nothing_of_the_spread(values: list[float], value: float) -> None:
    found = RunningMean.of(values).interval()
    assert found.value == pytest.approx(value, nan_ok=True)
    assert found.side == "unknown"


def test_a_loss_that_is_nan_leaves_the_mean_unknown() -> None:
    found = RunningMean.of([1.0, math.nan, 2.0]).interval()
    assert math.isnan(found.value)
    assert found.side == "unknown"


def test_a_population_is_no_smaller_than_its_samples() -> None:
    with pytest.raises(ValueError, match="Moments needs population >= n, got 1 for n=2; leave it out"):
        RunningMean.of([1.0, 2.0]).interval(population=1)
