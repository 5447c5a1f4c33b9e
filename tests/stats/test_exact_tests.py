"""Against SciPy's exact tests and enumeration; and silence where intervals are good enough."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest, fisher_exact

from lightning_debugkit.stats.exact_tests import could_be_chance, mcnemar, paired_counts


@given(st.integers(1, 40), st.integers(1, 40), st.data())
@settings(max_examples=150, deadline=None)
def test_fishers_test_decides_where_a_cell_is_expected_to_be_small(n: int, m: int, data: st.DataObject) -> None:
    wrong, before = data.draw(st.integers(0, n)), data.draw(st.integers(0, m))
    p = fisher_exact([[wrong, n - wrong], [before, m - before]], alternative="greater").pvalue
    assume(abs(p - 0.025) > 1e-9)  # 1 of 40 is as large as the level: rounding decides
    both = wrong + before
    expected = [part * column / (n + m) for part in (n, m) for column in (both, n + m - both)]
    assert could_be_chance(wrong, n, before, m) == (min(expected) < 5 and bool(p >= 0.025))


@given(st.integers(1, 60), st.floats(0.0, 0.5), st.data())
@settings(max_examples=150, deadline=None)
def test_the_binomial_test_decides_against_a_known_rate(n: int, rate: float, data: st.DataObject) -> None:
    wrong = data.draw(st.integers(0, n))
    p = binomtest(wrong, n, rate, alternative="greater").pvalue
    if abs(p - 0.025) > 1e-9:
        assert could_be_chance(wrong, n, rate=rate) == (min(n * rate, n * (1 - rate)) < 5 and bool(p >= 0.025))


def test_many_samples_are_left_to_the_interval() -> None:
    assert not could_be_chance(50, 1000, 48, 1000)
    assert not could_be_chance(60_000, 1_000_000, 50_000, 1_000_000)


def test_mcnemar_counts_the_splits_that_are_as_uneven() -> None:
    """All 2 ** 9 ways that nine samples can fall."""
    uneven = sum(min(sum(fall), 9 - sum(fall)) <= 2 for fall in product((0, 1), repeat=9))
    assert mcnemar(2, 7) == pytest.approx(uneven / 2**9)


def test_pairs_are_counted_from_correctness_bits() -> None:
    assert paired_counts(torch.tensor([True, True, False, False, False]), np.array([1, 0, 1, 0, 0])) == (1, 1, 1, 2)
    with pytest.raises(ValueError, match=r"needs the same samples twice, got \(2,\) and \(3,\)"):
        paired_counts([1, 0], [1, 0, 1])


def test_counts_are_not_negative() -> None:
    with pytest.raises(ValueError, match=r"mcnemar needs counts, got -1 and 3; count samples."):
        mcnemar(-1, 3)
