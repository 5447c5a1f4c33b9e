"""Two models on the same samples: scipy, published examples, enumeration and simulation."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest, multinomial
from stats.coverage import RUNS, holds

from lightning_debugkit.stats.intervals import difference_interval, wilson
from lightning_debugkit.stats.paired import mcnemar, paired_counts, paired_difference

few = st.integers(0, 400)


@settings(deadline=None)
@given(one=few, other=few)
def test_mcnemar_is_scipys_exact_test(one: int, other: int) -> None:
    reference = binomtest(one, one + other).pvalue if one + other else 1.0
    assert mcnemar(one, other) == pytest.approx(reference, rel=1e-8)


def test_mcnemar_counts_the_splits_that_are_as_uneven() -> None:
    """All 2 ** 9 ways that nine samples can fall."""
    uneven = sum(min(sum(fall), 9 - sum(fall)) <= 2 for fall in product((0, 1), repeat=9))
    assert mcnemar(2, 7) == pytest.approx(uneven / 2**9)


def test_pairs_are_counted_from_correctness_bits() -> None:
    assert paired_counts(torch.tensor([True, True, False, False, False]), np.array([1, 0, 1, 0, 0])) == (1, 1, 1, 2)
    with pytest.raises(ValueError, match=r"needs the same samples twice, got \(2,\) and \(3,\)"):
        paired_counts([1, 0], [1, 0, 1])


def test_the_paired_interval_is_the_published_one() -> None:
    """Airway responsiveness before and after stem cell transplantation (Fagerland, Lydersen and Laake, 2014)."""
    found = paired_difference(both=1, only_first=1, only_second=7, neither=12)
    assert (found.value, found.low, found.high) == pytest.approx((6 / 21, 0.026, 0.507), abs=5e-4)


@settings(deadline=None)
@given(counts=st.tuples(*[st.integers(1, 200)] * 4))
def test_the_paired_interval_is_newcombes_formula_with_the_correlation_of_the_samples(counts: tuple[int, ...]) -> None:
    """From the samples themselves: phi is their correlation, its covariance less by half a sample where positive."""
    first, second = np.repeat([[1, 1], [1, 0], [0, 1], [0, 0]], counts, axis=0).T
    n, spread = len(first), first.std() * second.std()
    covariance = float(np.cov(first, second, ddof=0)[0, 1])
    phi = (max(covariance - 0.5 / n, 0) if covariance > 0 else covariance) / spread
    (low, high), (later_low, later_high) = (
        binomtest(int(wrong.sum()), n).proportion_ci(method="wilson") for wrong in (first, second)
    )
    down = [second.mean() - later_low, high - first.mean()]
    up = [later_high - second.mean(), first.mean() - low]
    table = np.array([[1, -phi], [-phi, 1]])
    value = second.mean() - first.mean()
    found = paired_difference(*counts)
    assert (value - found.low) ** 2 == pytest.approx(down @ table @ down, rel=1e-6, abs=1e-12)
    assert (found.high - value) ** 2 == pytest.approx(up @ table @ up, rel=1e-6, abs=1e-12)


@settings(deadline=None)
@given(both=few, only_first=few, only_second=few, neither=few)
def test_swapping_the_models_changes_the_sign(both: int, only_first: int, only_second: int, neither: int) -> None:
    one = paired_difference(both, only_first, only_second, neither)
    other = -paired_difference(both, only_second, only_first, neither)
    assert (one.low, one.high) == pytest.approx((other.low, other.high), abs=1e-9)
    assert not one.low > one.value
    assert not one.value > one.high


@pytest.mark.parametrize("shares", [(0.04, 0.02, 0.01, 0.93), (0.1, 0.1, 0.2, 0.6), (0.01, 0.03, 0.03, 0.93)])
def test_the_interval_of_a_paired_gap_holds_it_in_95_of_100_runs(shares: tuple[float, ...]) -> None:
    tables = multinomial.rvs(1_000, shares, size=RUNS, random_state=5)
    truth = shares[2] - shares[1]
    assert 0.93 <= holds((paired_difference(*map(int, table)) for table in tables), truth) <= 0.97


def test_shared_mistakes_make_a_small_gap_visible() -> None:
    """2,000 samples, 6 % against 5 %: four of five mistakes shared. As independent sets they show nothing."""
    both, only_first, only_second = 96, 24, 4
    assert paired_difference(both, only_first, only_second, 2_000 - 124).side == "below"
    assert mcnemar(only_first, only_second) < 0.001
    assert difference_interval(wilson(100, 2_000), wilson(120, 2_000)).side == "across"


def test_no_sample_leaves_everything_open() -> None:
    found = paired_difference(0, 0, 0, 0)
    assert math.isnan(found.value)
    assert (found.low, found.high) == (-1.0, 1.0)


def test_counts_are_not_negative() -> None:
    with pytest.raises(ValueError, match=r"mcnemar needs counts, got -1 and 3; count samples."):
        mcnemar(-1, 3)
