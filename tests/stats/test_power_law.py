"""Learning curves: known curves come back, scipy fits the same, intervals hold what more data would bring."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import curve_fit
from stats.coverage import RUNS, holds

from lightning_debugkit.stats.power_law import fit_power_law

SIZES = np.array([100.0, 200, 400, 800, 1_600])


def curve(n: np.ndarray | float, floor: float, scale: float, exponent: float) -> np.ndarray:
    return np.asarray(floor + scale * n**-exponent)


@settings(max_examples=30, deadline=None)
@given(floor=st.floats(0, 0.3), scale=st.floats(0.5, 5), exponent=st.floats(0.2, 1.5))
def test_a_curve_without_noise_comes_back(floor: float, scale: float, exponent: float) -> None:
    fitted = fit_power_law(SIZES, curve(SIZES, floor, scale, exponent), replicates=2)
    assert fitted.at(3_200).value == pytest.approx(float(curve(3_200.0, floor, scale, exponent)), rel=0.02, abs=5e-4)
    assert fitted.exponent == pytest.approx(exponent, rel=0.02)


def test_the_fit_is_scipys() -> None:
    rng = np.random.default_rng(0)
    sizes, spreads = np.repeat(SIZES, 4), np.repeat([0.02, 0.02, 0.01, 0.01, 0.005], 4)
    errors = curve(sizes, 0.1, 4.0, 0.6) + spreads * rng.normal(size=20)
    reference, _ = curve_fit(curve, sizes, errors, p0=(0.05, 2, 0.5), sigma=spreads, bounds=(0, [1, 100, 4]))
    fitted = fit_power_law(sizes, errors, spreads, replicates=2)
    for n in (150, 3_200, 10_000):
        assert fitted.at(n).value == pytest.approx(float(curve(n, *reference)), rel=2e-3)


@pytest.mark.parametrize(("floor", "repeats", "known"), [(0.05, 3, True), (0.05, 1, False), (0.0, 3, False)])
def test_what_more_data_bring_is_held_in_95_of_100_runs(floor: float, repeats: int, known: bool) -> None:
    """At five sizes; a floor of zero is the bound of what the fit allows."""
    rng = np.random.default_rng(1)
    sizes = np.repeat(SIZES, repeats)
    truth = curve(sizes, floor, 3.0, 0.5)
    spreads = np.full(len(sizes), 0.01) if known else None
    runs = truth + rng.normal(0, 0.01, (RUNS, len(sizes)))
    fits = [fit_power_law(sizes, run, spreads, replicates=200) for run in runs]
    now, then = float(truth[-1]), float(curve(3_200.0, floor, 3.0, 0.5))
    assert 0.93 <= holds((fit.at(3_200) for fit in fits), then) <= 0.97
    assert 0.93 <= holds((fit.gain(1_600, 3_200) for fit in fits), now - then) <= 0.97


def test_a_flat_curve_promises_nothing() -> None:
    rng = np.random.default_rng(2)
    sizes = np.repeat(SIZES, 5)
    fitted = fit_power_law(sizes, 0.2 + rng.normal(0, 0.002, 25))
    assert fitted.gain(1_600, 3_200).low == pytest.approx(0, abs=1e-4)
    assert fitted.gain(1_600, 3_200).high < 0.003


def test_a_steep_curve_promises_more() -> None:
    rng = np.random.default_rng(3)
    sizes = np.repeat(SIZES, 5)
    fitted = fit_power_law(sizes, curve(sizes, 0.0, 3.0, 0.5) + rng.normal(0, 0.002, 25))
    assert fitted.gain(1_600, 3_200).side == "above"
    assert fitted.floor_interval.low < 0.005
    assert fitted.gain(1_600, 3_200).value == pytest.approx(0.075 - 0.053, rel=0.2)


@settings(max_examples=30, deadline=None)
@given(errors=st.lists(st.floats(0, 1), min_size=5, max_size=5))
def test_whatever_the_points_the_curve_neither_rises_nor_falls_below_zero(errors: list[float]) -> None:
    fitted = fit_power_law(SIZES, errors, replicates=20)
    assert fitted.floor >= 0
    assert fitted.scale >= 0
    for law in (fitted.at(50), fitted.at(3_200), fitted.gain(100, 200)):
        assert law.low <= law.value <= law.high
        assert law.value >= 0


def test_the_same_seed_leaves_the_same_open() -> None:
    errors = [0.5, 0.4, 0.38, 0.3, 0.29]
    one, same, other = (fit_power_law(SIZES, errors, seed=seed).at(3_200) for seed in (1, 1, 2))
    assert one == same
    assert one.value == other.value
    assert one.low != other.low


@pytest.mark.parametrize(
    ("sizes", "errors"),
    [
        ([1, 2, 3], [1, 1, 1]),
        ([1, 1, 2, 2], [1, 1, 1, 1]),
        ([0, 1, 2, 3], [1, 1, 1, 1]),
        ([1, 2, 3, 4], [1, 1, 1, np.nan]),
    ],
)
def test_three_sizes_and_four_errors_are_the_least(sizes: list[int], errors: list[float]) -> None:
    with pytest.raises(
        ValueError, match="fit_power_law needs four errors or more, none negative, at three positive sizes"
    ):
        fit_power_law(sizes, errors)


@pytest.mark.parametrize("spreads", [[0.1, 0.1], [0.1, 0.1, 0.0, 0.1]])
def test_each_error_has_a_spread(spreads: list[float]) -> None:
    with pytest.raises(ValueError, match="needs a positive spread of each error; leave spreads out if none is known"):
        fit_power_law([1, 2, 3, 4], [4, 3, 2, 1], spreads)
