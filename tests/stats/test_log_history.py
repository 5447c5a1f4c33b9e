"""The robust history against numpy's median and median absolute deviation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_debugkit.stats.log_history import LogHistory

positive = st.floats(1e-8, 1e8)


def score(values: list[float], value: float) -> float:
    """The modified z-score of log(value), by numpy."""
    logs = np.log(values)
    mad = np.median(np.abs(logs - np.median(logs)))
    return float((np.log(value) - np.median(logs)) / max(1.4826 * mad, 0.1))


@settings(max_examples=100, deadline=None)
@given(values=st.lists(positive, min_size=1, max_size=30), value=positive)
def test_sigmas_are_numpys(values: list[float], value: float) -> None:
    assert LogHistory(values=values).sigmas(value) == pytest.approx(score(values, value), rel=1e-9, abs=1e-9)


def test_the_scale_of_the_deviation_is_that_of_a_normal_distribution() -> None:
    """1.4826 makes the median absolute deviation of normal numbers their standard deviation."""
    rng = np.random.default_rng(0)
    history = LogHistory(window=20_000, values=np.exp(rng.normal(0, 2, 20_000)).tolist())
    assert history.sigmas(math.exp(6)) == pytest.approx(3, rel=0.03)


@settings(max_examples=50, deadline=None)
@given(values=st.lists(positive, min_size=3, max_size=30), value=positive, factor=st.floats(1e-3, 1e3))
def test_the_unit_does_not_matter(values: list[float], value: float, factor: float) -> None:
    scaled = LogHistory(values=[factor * item for item in values]).sigmas(factor * value)
    assert scaled == pytest.approx(LogHistory(values=values).sigmas(value), rel=1e-6, abs=1e-6)


def test_a_minority_of_outliers_does_not_hide_the_next() -> None:
    """Nine of twenty values are huge; the mean and standard deviation would call the next one usual."""
    values = [1.0, 1.1, 0.9, 1.05, 0.95, 1.0, 1.02, 0.98, 1.0, 1.1, 0.9] + [1e6] * 9
    history = LogHistory(values=values)
    assert history.sigmas(1e6) > 6
    logs = np.log(values)
    assert (np.log(1e6) - logs.mean()) / logs.std() < 2


def test_a_constant_history_takes_small_changes_lightly() -> None:
    history = LogHistory(values=[2.0] * 50)
    assert history.sigmas(2.1) < 1
    assert history.sigmas(200.0) > 6


@pytest.mark.parametrize("value", [0.0, -1.0, math.inf, math.nan])
def test_what_has_no_logarithm_is_not_remembered(value: float) -> None:
    history = LogHistory(values=[1.0])
    history.add(value)
    assert list(history.values) == [1.0]


def test_only_the_window_is_remembered() -> None:
    history = LogHistory(window=3)
    for value in (1.0, 2.0, 3.0, 4.0):
        history.add(value)
    assert (list(history.values), len(history), history.median) == ([2.0, 3.0, 4.0], 3, 3.0)


def test_without_a_past_nothing_deviates() -> None:
    history = LogHistory()
    assert history.sigmas(1e9) == 0
    assert math.isnan(history.median)
