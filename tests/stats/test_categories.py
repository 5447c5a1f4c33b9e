"""Metadata as numbered values."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_debugkit.stats.categories import BINS, category


@settings(deadline=None)
@given(values=st.lists(st.sampled_from(["a", "b", "", "c d"]), min_size=1, max_size=30))
def test_each_sample_has_the_number_of_its_value(values: list[str]) -> None:
    found = category("source", values)
    assert [found.values[code] for code in found.codes] == values
    assert found.numbers is None


def test_few_numbers_are_categories_and_many_are_ranges_of_as_many_samples() -> None:
    few = category("angle", torch.tensor([0, 90, 0, 180]))
    assert (few.values, few.codes.tolist()) == (("0", "90", "180"), [0, 1, 0, 2])
    many = category("brightness", np.random.default_rng(0).normal(size=1_000))
    assert np.bincount(many.codes).tolist() == [1_000 // BINS] * BINS


def test_values_that_are_missing_have_no_number() -> None:
    assert category("source", ["a", None, "b"]).codes.tolist() == [0, -1, 1]
    assert category("angle", [0.0, np.nan, 90.0]).codes.tolist() == [0, -1, 1]
    assert category("length", np.append(np.arange(100.0), np.nan)).codes[-1] == -1


def test_a_name_for_each_sample_is_cut_to_the_most_frequent() -> None:
    found = category("file", [f"{number}.png" for number in range(500)] + ["7.png"] * 3)
    assert len(found.values) == 100
    assert "7.png" in found.values


def test_truth_values_are_two_categories() -> None:
    assert category("rotated", torch.tensor([True, False])).values == ("False", "True")


def test_ranges_of_large_numbers_that_are_near_can_be_told_apart() -> None:
    values = category("time", 1.7e9 + np.arange(1000)).values
    assert len(set(values)) == 5
    assert values[0] == "<= 1700000200"


def test_numbers_that_are_near_have_names_of_their_own() -> None:
    assert category("hospital", np.array([100_000_001.0, 100_000_002.0])).values == ("100000001", "100000002")
