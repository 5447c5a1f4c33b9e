"""The exact split of a gap into label shift and change within classes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stats.coverage import RUNS, holds

from lightning_debugkit.stats.rate_decomposition import bootstrap_rate_decomposition, rate_decomposition

classes = st.lists(
    st.integers(0, 50).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n))), min_size=4, max_size=4
).filter(lambda counts: sum(n for n, _ in counts) > 0)


def split(counts: list[tuple[int, int]]) -> tuple[list[int], list[int]]:
    return [n for n, _ in counts], [wrong for _, wrong in counts]


@settings(deadline=None)
@given(before=classes, after=classes)
def test_both_parts_are_the_gap(before: list[tuple[int, int]], after: list[tuple[int, int]]) -> None:
    (n, wrong), (later_n, later_wrong) = split(before), split(after)
    shift = rate_decomposition((n, wrong), (later_n, later_wrong))
    gap = sum(later_wrong) / sum(later_n) - sum(wrong) / sum(n)
    assert shift.labels + shift.within == pytest.approx(gap, abs=1e-12)


@settings(deadline=None)
@given(before=classes, after=classes)
def test_the_way_back_is_the_negative(before: list[tuple[int, int]], after: list[tuple[int, int]]) -> None:
    there, back = rate_decomposition(split(before), split(after)), rate_decomposition(split(after), split(before))
    assert (there.labels, there.within) == pytest.approx((-back.labels, -back.within), abs=1e-12)


def test_other_shares_at_the_same_rates_are_label_shift_alone() -> None:
    shift = rate_decomposition(([100, 300], [10, 90]), ([300, 100], [30, 30]))
    assert (shift.labels, shift.within) == pytest.approx((-0.1, 0.0))


def test_other_rates_at_the_same_shares_are_change_within_classes_alone() -> None:
    shift = rate_decomposition(([100, 300], [10, 30]), ([10, 30], [5, 3]))
    assert (shift.labels, shift.within) == pytest.approx((0.0, 0.1))


def test_a_class_that_is_new_is_label_shift() -> None:
    shift = rate_decomposition(([100, 0], [10, 0]), ([50, 50], [5, 45]))
    assert (shift.labels, shift.within) == pytest.approx((0.4, 0.0))


def test_a_class_that_neither_set_has_adds_nothing() -> None:
    shift = rate_decomposition(([0, 10], [0, 1]), ([0, 10], [0, 3]))
    assert (shift.labels, shift.within) == pytest.approx((0.0, 0.2))


def test_intervals_hold_both_parts_in_95_of_100_runs() -> None:
    rng = np.random.default_rng(0)
    shares, rates = ([0.5, 0.3, 0.2], [0.2, 0.5, 0.3]), ([0.05, 0.1, 0.3], [0.1, 0.1, 0.4])

    def drawn(side: int, n: int) -> tuple[np.ndarray, np.ndarray]:
        supports = rng.multinomial(n, shares[side])
        return supports, rng.binomial(supports, rates[side])

    truth = rate_decomposition(*((np.array(shares[i]), np.array(shares[i]) * rates[i]) for i in (0, 1)))
    runs = [bootstrap_rate_decomposition(drawn(0, 600), drawn(1, 400), replicates=500) for _ in range(RUNS)]
    assert 0.93 <= holds((labels for labels, _ in runs), truth.labels) <= 0.97
    assert 0.93 <= holds((within for _, within in runs), truth.within) <= 0.97


@pytest.mark.parametrize("counts", [([1, 2], [1]), ([0, 0], [0, 0]), ([2, 2], [3, 0]), ([2, 2], [-1, 0])])
def test_mistakes_are_counted_among_samples(counts: tuple[list[int], list[int]]) -> None:
    with pytest.raises(ValueError, match="kitagawa needs samples and wrong samples of each class"):
        rate_decomposition(counts, ([1, 1], [0, 1]))
