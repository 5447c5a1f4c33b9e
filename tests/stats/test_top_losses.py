"""The samples of largest loss against a sort of all of them."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_debugkit.stats.top_losses import TopLosses

losses = st.lists(st.sampled_from([0.0, 0.5, 1.0, 2.0, math.inf, math.nan]) | st.floats(0, 10, width=32), max_size=50)


def looked(k: int, values: list[float], first: int = 0, batch: int = 4) -> TopLosses:
    top, loss = TopLosses(k), torch.tensor(values)
    for part, index in zip(loss.split(batch), (torch.arange(len(loss)) + first).split(batch), strict=True):
        if len(part):
            top.update(part, index % 3, index % 5, index, part / 2, part / 4)
    return top


def first_of(k: int, values: list[float]) -> list[tuple[float, int]]:
    ranked = [(value, index) for index, value in enumerate(values) if not math.isnan(value)]
    return sorted(ranked, key=lambda pair: (-pair[0], pair[1]))[:k]


@settings(deadline=None)
@given(values=losses, k=st.integers(1, 12), batch=st.integers(1, 9))
def test_the_largest_are_the_first_of_a_sort(values: list[float], k: int, batch: int) -> None:
    top = looked(k, values, batch=batch)
    assert [(sample.loss, sample.index) for sample in top.sorted()] == first_of(k, values)
    assert top.broken == sum(map(math.isnan, values))


@settings(deadline=None)
@given(values=losses, k=st.integers(1, 12), cut=st.integers(0, 50))
def test_parts_that_are_merged_are_the_whole(values: list[float], k: int, cut: int) -> None:
    part, other = looked(k, values[:cut]), looked(k, values[cut:], first=min(cut, len(values)))
    part.merge(other)
    assert part.sorted() == looked(k, values).sorted()
    assert part.broken == looked(k, values).broken


def test_a_sample_keeps_what_belongs_to_it() -> None:
    values = torch.rand(20_000, generator=torch.Generator().manual_seed(0)).tolist()
    for sample in looked(30, values, batch=700).sorted():
        assert sample.loss == pytest.approx(values[sample.index])
        assert (sample.target, sample.predicted) == (sample.index % 3, sample.index % 5)
        assert (sample.probability, sample.confidence) == pytest.approx((sample.loss / 2, sample.loss / 4))


def test_its_state_goes_on() -> None:
    values = [0.1, 3.0, 2.0, math.nan, 5.0, 4.0]
    again = TopLosses.of(looked(2, values[:3]).state())
    again.merge(looked(2, values[3:], first=3))
    assert [sample.index for sample in again.sorted()] == [4, 5]
    assert again.broken == 1


def test_probabilities_are_unknown_unless_given() -> None:
    top, index = TopLosses(1), torch.tensor([7])
    top.update(torch.tensor([1.0]), index, index, index)
    assert math.isnan(top.sorted()[0].probability)


def test_columns_have_one_number_a_sample() -> None:
    index = torch.arange(3)
    with pytest.raises(ValueError, match="TopLosses needs one target, prediction and index a loss, got 2 losses"):
        TopLosses(1).update(torch.ones(2), index, index, index)


def test_none_at_all_is_no_choice() -> None:
    with pytest.raises(ValueError, match="TopLosses needs k >= 1, got 0; 25 make a page of pictures"):
        TopLosses(0)


def test_of_equal_ones_the_lower_index_is_first() -> None:
    top = TopLosses(4)
    index = torch.tensor([7, 2, 9, 4, 1])
    none = torch.zeros(5, dtype=torch.long)
    top.update(torch.tensor([1.0, 1.0, 2.0, 1.0, 1.0]), none, none, index)
    assert [each.index for each in top.sorted()] == [9, 1, 2, 4]
