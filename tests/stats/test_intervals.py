"""Intervals of rates and of their differences: scipy, published examples, exact and simulated coverage."""

from __future__ import annotations

import functools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, binomtest
from stats.coverage import RUNS, exact_coverage, holds

from lightning_debugkit.stats.intervals import (
    Interval,
    bare_interval,
    clopper_pearson,
    difference_interval,
    exact,
    quantile,
    wilson,
)
from lightning_debugkit.stats.running_mean import RunningMean

counts = st.integers(1, 2_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


@settings(deadline=None)
@given(counts=counts, level=st.floats(0.5, 0.999))
def test_wilson_is_scipys(counts: tuple[int, int], level: float) -> None:
    reference = binomtest(*counts).proportion_ci(level, method="wilson")
    found = wilson(*counts, level=level)
    assert (found.low, found.high) == pytest.approx((reference.low, reference.high), abs=1e-12)


@settings(deadline=None)
@given(counts=counts, level=st.floats(0.5, 0.999))
def test_clopper_pearson_is_scipys(counts: tuple[int, int], level: float) -> None:
    reference = binomtest(*counts).proportion_ci(level, method="exact")
    found = clopper_pearson(*counts, level=level)
    assert (found.low, found.high) == pytest.approx((reference.low, reference.high), rel=1e-7, abs=1e-9)


@pytest.mark.parametrize("interval", [wilson, clopper_pearson])
def test_no_sample_leaves_everything_open(interval: type[wilson]) -> None:
    found = interval(0, 0)
    assert math.isnan(found.value)
    assert (found.low, found.high, found.n) == (0.0, 1.0, 0)


@pytest.mark.parametrize("interval", [wilson, clopper_pearson])
def test_no_mistake_bounds_the_rate_at_zero_and_only_mistakes_at_one(interval: type[wilson]) -> None:
    assert interval(0, 7).low == 0.0
    assert interval(7, 7).high == 1.0


@settings(deadline=None)
@given(counts=counts)
def test_right_and_wrong_are_mirror_images(counts: tuple[int, int]) -> None:
    wrong, n = counts
    one, other = wilson(wrong, n), wilson(n - wrong, n)
    assert (one.low, one.high) == pytest.approx((1 - other.high, 1 - other.low), abs=1e-12)


@pytest.mark.parametrize(
    ("n", "rate", "score", "safe"),
    [
        (50, 0.02, 0.923, 0.982),
        (100, 0.02, 0.948, 0.984),
        (100, 0.05, 0.965, 0.983),
        (500, 0.01, 0.962, 0.980),
        (2000, 0.005, 0.963, 0.975),
        (10_000, 0.05, 0.949, 0.952),
    ],
)
def test_coverage_summed_over_all_outcomes_is_what_simulations_gave(
    n: int, rate: float, score: float, safe: float
) -> None:
    """Wilson's is 95 % on average over rates; the exact interval is at least that, and more where samples are few."""
    likely = range(min(n, int(n * rate + 12 * math.sqrt(n * rate)) + 10) + 1)
    never = [exact(-1.0)] * (n - likely[-1])
    assert exact_coverage([wilson(k, n) for k in likely] + never, rate) == pytest.approx(score, abs=2e-3)
    assert exact_coverage([clopper_pearson(k, n) for k in likely] + never, rate) == pytest.approx(safe, abs=2e-3)


seen_before = functools.cache(clopper_pearson)


@settings(deadline=None)
@given(n=st.integers(1, 60), rate=st.floats(0.0, 1.0, allow_subnormal=False).map(lambda rate: round(rate, 6)))
def test_clopper_pearson_never_covers_less_than_it_promises(n: int, rate: float) -> None:
    assert exact_coverage([seen_before(k, n) for k in range(n + 1)], rate) >= 0.95 - 1e-9


@pytest.mark.parametrize("rate", [0.01, 0.05, 0.2, 0.5])
def test_200_samples_suffice_for_an_interval_that_holds_the_error_in_95_of_100_runs(rate: float) -> None:
    assert 0.93 <= exact_coverage([wilson(k, 200) for k in range(201)], rate) <= 0.97


@pytest.mark.parametrize("n", [1_000, 10_000])
@pytest.mark.parametrize("rate", [0.01, 0.05, 0.2, 0.5])
def test_the_interval_of_an_error_holds_it_in_95_of_100_runs(n: int, rate: float) -> None:
    wrong = np.random.default_rng(1).binomial(n, rate, RUNS)
    assert 0.93 <= holds((wilson(int(k), n) for k in wrong), rate) <= 0.97


@pytest.mark.parametrize(("n", "population"), [(500, 1_000), (900, 1_000), (2_000, 50_000)])
def test_a_subset_tells_of_the_whole_set_in_95_of_100_runs(n: int, population: int) -> None:
    """Of 1,000 samples, 900 leave little open; were the set taken for endless, the interval would be too wide."""
    wrong = np.random.default_rng(2).hypergeometric(population // 5, population - population // 5, n, RUNS)
    assert 0.93 <= holds((wilson(int(k), n, population=population) for k in wrong), 0.2) <= 0.97
    if n == 900:
        assert holds((wilson(int(k), n) for k in wrong), 0.2) == 1.0


@settings(deadline=None)
@given(counts=counts, more=st.integers(0, 5_000))
def test_a_subset_of_a_finite_set_leaves_less_open_and_nothing_impossible(counts: tuple[int, int], more: int) -> None:
    wrong, n = counts
    finite, endless = wilson(wrong, n, population=n + more), wilson(wrong, n)
    assert endless.low - 1e-9 <= finite.low <= finite.value <= finite.high <= endless.high + 1e-9
    assert finite.low >= wrong / (n + more) - 1e-12
    assert finite.high <= 1 - (n - wrong) / (n + more) + 1e-12


def test_newcombes_interval_is_the_published_one() -> None:
    """Newcombe 1998, table II, method 10: 56 of 70 less 48 of 80."""
    found = difference_interval(wilson(56, 70), wilson(48, 80))
    assert (found.value, found.low, found.high) == pytest.approx((0.2, 0.0524, 0.3339), abs=5e-5)


def gap_coverage(before: tuple[int, float], after: tuple[int, float]) -> float:
    """Of Newcombe's interval, summed over all pairs of counts."""
    (n, rate), (later_n, later_rate) = before, after
    likely = np.flatnonzero(binom.pmf(np.arange(n + 1), n, rate) > 1e-9)
    later = np.flatnonzero(binom.pmf(np.arange(later_n + 1), later_n, later_rate) > 1e-9)
    firsts, seconds = [wilson(int(k), n) for k in likely], [wilson(int(k), later_n) for k in later]
    total = 0.0
    for p, first in zip(binom.pmf(likely, n, rate), firsts, strict=True):
        for q, second in zip(binom.pmf(later, later_n, later_rate), seconds, strict=True):
            found = difference_interval(second, first)
            total += p * q * (found.low <= later_rate - rate <= found.high)
    return total


@pytest.mark.parametrize(
    ("before", "after", "coverage"), [((1000, 0.02), (100, 0.05), 0.957), ((5000, 0.0), (200, 0.01), 0.949)]
)
def test_coverage_of_a_gap_summed_over_all_outcomes_is_what_simulations_gave(
    before: tuple[int, float], after: tuple[int, float], coverage: float
) -> None:
    assert gap_coverage(before, after) == pytest.approx(coverage, abs=4e-3)


@pytest.mark.parametrize("low", [0.0, 0.01, 0.4])
def test_with_a_known_start_a_gap_is_the_later_interval_moved(low: float) -> None:
    later = wilson(30, 200)
    found = difference_interval(later, exact(low))
    assert (found.low, found.high) == pytest.approx((later.low - low, later.high - low), abs=1e-12)


@pytest.mark.parametrize("sizes", [(100, 40), (500, 500)])
def test_the_gap_of_two_mean_losses_is_held_in_95_of_100_runs(sizes: tuple[int, int]) -> None:
    """The same rule for any two intervals, here Student's, of sets whose losses spread unlike."""
    rng = np.random.default_rng(3)
    first, second = rng.gamma(2.0, 0.25, (RUNS, sizes[0])), rng.gamma(4.0, 0.2, (RUNS, sizes[1]))
    gaps = (
        difference_interval(RunningMean.of(b).interval(), RunningMean.of(a).interval())
        for a, b in zip(first, second, strict=True)
    )
    assert 0.93 <= holds(gaps, 4.0 * 0.2 - 2.0 * 0.25) <= 0.97


@settings(deadline=None)
@given(one=counts, other=counts)
def test_the_gap_the_other_way_is_the_negative(one: tuple[int, int], other: tuple[int, int]) -> None:
    there, back = difference_interval(wilson(*one), wilson(*other)), -difference_interval(wilson(*other), wilson(*one))
    assert (there.value, there.low, there.high) == pytest.approx((back.value, back.low, back.high), abs=1e-12)


@settings(deadline=None)
@given(one=counts, other=counts)
def test_no_gap_of_rates_is_larger_than_one(one: tuple[int, int], other: tuple[int, int]) -> None:
    found = difference_interval(wilson(*one), wilson(*other))
    assert -1 - 1e-9 <= found.low <= found.value <= found.high <= 1 + 1e-9


@pytest.mark.parametrize("unknown", [bare_interval(0.2), bare_interval(math.nan), wilson(0, 0)])
def test_a_gap_from_what_is_not_known_is_not_known(unknown: Interval) -> None:
    assert difference_interval(wilson(90, 100), unknown).side == "unknown"
    assert difference_interval(unknown, wilson(90, 100)).side == "unknown"


@pytest.mark.parametrize(("interval", "side"), [(exact(0.0), "across"), (exact(-1.0), "below"), (exact(1e-9), "above")])
def test_the_side_is_that_of_all_that_is_left_open(interval: Interval, side: str) -> None:
    assert interval.side == side


@pytest.mark.parametrize("interval", [wilson, clopper_pearson])
@pytest.mark.parametrize(("wrong", "n"), [(-1, 5), (6, 5)])
def test_more_mistakes_than_samples_are_no_rate(interval: type[wilson], wrong: int, n: int) -> None:
    text = f"A rate needs 0 <= wrong <= n, got {wrong} of {n}; count the samples that are wrong."
    with pytest.raises(ValueError, match=text):
        interval(wrong, n)


def test_a_population_is_no_smaller_than_its_samples() -> None:
    with pytest.raises(ValueError, match=r"wilson needs population >= n, got 9 for n=10; leave it out if unknown."):
        wilson(1, 10, population=9)


@pytest.mark.parametrize("level", [0.0, 1.0, 95])
def test_a_level_is_a_share(level: float) -> None:
    with pytest.raises(ValueError, match=f"An interval needs a level between 0 and 1, got {level}; 0.95 is usual."):
        quantile(level)
