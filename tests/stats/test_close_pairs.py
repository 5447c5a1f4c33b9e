"""Copies lie closer than chance puts independent samples; dense regions, series and steps are no copies."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from lightning_debugkit.stats.close_pairs import FEWEST, close_pairs


def drawn(count: int, size: int, seed: int = 0) -> Tensor:
    return torch.randn(count, size, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("size", [5, 10, 40])
def test_copies_with_a_little_noise_are_found_and_nothing_else(size: int) -> None:
    x = drawn(400, size)
    copies = torch.cat([x, x[:20] + 0.01 * drawn(20, size, 1)])
    found = close_pairs(copies)
    assert found is not None
    told = {tuple(sorted(pair)) for pair in found.pairs.tolist()}
    assert told == {(at, 400 + at) for at in range(20)}
    assert 0.5 < found.dimension / size < 2


def test_three_copies_of_one_are_found_too() -> None:
    x = drawn(300, 8)
    found = close_pairs(torch.cat([x, *(x[:1] + 1e-3 * drawn(1, 8, seed) for seed in (1, 2, 3))]))
    assert found is not None
    assert {row for row, _ in found.pairs.tolist()} == {0, 300, 301, 302}


def test_as_few_pairs_as_stated_are_found_where_there_are_no_copies() -> None:
    sets = [close_pairs(drawn(200, 8, seed)) for seed in range(60)]
    assert sum(len(found.pairs) > 0 for found in sets if found is not None) <= 6


def test_a_dense_region_is_no_copy() -> None:
    x = drawn(400, 6)
    x[:200] *= 1e-3
    found = close_pairs(x)
    assert found is not None
    assert not len(found.pairs)


def test_overlapping_windows_of_a_series_are_no_copies() -> None:
    for series in (drawn(600, 1)[:, 0].cumsum(0), torch.sin(torch.arange(600) / 9.0), torch.arange(600) * 0.1):
        found = close_pairs(series.unfold(0, 24, 1))
        assert found is None or not len(found.pairs)


@pytest.mark.parametrize("size", [6, 100])
def test_of_many_samples_the_pairs_are_those_that_all_distances_show(size: int) -> None:
    x = drawn(3000, size)
    copies = torch.cat([x, x[-50:] + 0.01 * drawn(50, size, 1), x[:9]])
    found = close_pairs(copies)
    assert found is not None
    assert {tuple(sorted(pair)) for pair in found.pairs.tolist()} == {(2950 + at, 3000 + at) for at in range(50)}
    asked = close_pairs(x[:1500], torch.cat([x[1500:], x[:1] + 0.01, x[1:2]]))
    assert asked is not None
    assert asked.pairs.tolist() == [[1500, 0]]


def test_around_a_sample_its_own_dimension_counts_where_it_is_the_lower_one() -> None:
    """By that of all together, 152 of these would be copies."""
    plane = drawn(2000, 3) @ drawn(3, 20, 1)
    found = close_pairs(torch.cat([plane, drawn(6000, 20, 2)]))
    assert found is not None
    assert found.dimension > 10
    assert len(found.pairs) < 5


def test_validation_is_compared_with_training() -> None:
    x = drawn(400, 8)
    found = close_pairs(x[:300], torch.cat([x[300:], x[5:8] + 1e-3]))
    assert found is not None
    assert sorted(found.pairs.tolist()) == [[100, 5], [101, 6], [102, 7]]


def test_what_comes_in_steps_or_is_too_little_is_not_judged() -> None:
    assert close_pairs((drawn(300, 5) > 0).float()) is None
    assert close_pairs(drawn(FEWEST - 1, 5)) is None
