"""Slices that are planted are found; on metadata that tells nothing, nothing is."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import hypergeom

from lightning_debugkit.stats.slice_search import worse
from lightning_debugkit.stats.weak_slices import scan_slices

N = 3_000


def metadata(rng: np.random.Generator, n: int = N) -> dict[str, np.ndarray]:
    return {
        "camera": rng.integers(0, 6, n).astype(str),
        "site": rng.integers(0, 4, n),
        "brightness": rng.normal(size=n),
        "length": rng.lognormal(size=n),
    }


def test_a_value_that_is_hard_is_found() -> None:
    rng = np.random.default_rng(0)
    columns = metadata(rng)
    wrong = rng.random(N) < np.where(columns["camera"] == "3", 0.3, 0.05)
    [found] = scan_slices(columns, wrong).slices
    inside = columns["camera"] == "3"
    assert found.conditions == {"camera": "3"}
    assert (found.n, found.errors) == (inside.sum(), wrong[inside].sum())
    assert (found.rate, found.rest_rate) == pytest.approx((wrong[inside].mean(), wrong[~inside].mean()))
    assert found.low < 0.3 < found.high
    assert found.rows.tolist() == np.flatnonzero(inside).tolist()


def test_a_pair_of_values_that_is_hard_is_found_and_not_its_parts() -> None:
    rng = np.random.default_rng(1)
    columns = metadata(rng)
    hard = (columns["camera"] == "1") & (columns["site"] == 2)
    found = scan_slices(columns, rng.random(N) < np.where(hard, 0.5, 0.05)).slices
    assert [one.conditions for one in found] == [{"camera": "1", "site": "2"}]


def test_a_value_that_is_hard_everywhere_is_not_told_again_in_pairs() -> None:
    rng = np.random.default_rng(2)
    columns = metadata(rng, 20_000)
    wrong = rng.random(20_000) < np.where(columns["camera"] == "1", 0.3, 0.05)
    assert [one.conditions for one in scan_slices(columns, wrong).slices] == [{"camera": "1"}]


def test_a_range_of_numbers_is_found_where_the_tree_cuts() -> None:
    """The dark eighth is hard: no fifth, which the ranges are, ends there."""
    pytest.importorskip("sklearn")
    rng = np.random.default_rng(3)
    columns = metadata(rng, 8_000)
    dark = columns["brightness"] < -1.15
    found = scan_slices(columns, rng.random(8_000) < np.where(dark, 0.4, 0.04)).slices
    assert set(found[0].conditions) == {"brightness"}
    inside = np.zeros(8_000, bool)
    inside[found[0].rows] = True
    assert (inside & dark).sum() / (inside | dark).sum() > 0.95


def test_without_scikit_learn_ranges_are_still_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setitem(sys.modules, "sklearn", None)
    rng = np.random.default_rng(4)
    columns = metadata(rng)
    found = scan_slices(columns, rng.random(N) < np.where(columns["brightness"] < -0.85, 0.4, 0.04)).slices
    assert found[0].conditions.keys() == {"brightness"}
    assert found[0].conditions["brightness"].startswith("<= -0.")


@pytest.mark.parametrize("rate", [0.02, 0.2])
def test_on_shuffled_metadata_nothing_is_found(rate: float) -> None:
    """At most one in a hundred such data sets may have a slice by chance; 200 of them, so up to seven."""
    rng = np.random.default_rng(5)
    found = [scan_slices(metadata(rng, 800), rng.random(800) < rate).slices for _ in range(200)]
    assert sum(bool(slices) for slices in found) <= 7


def test_at_a_looser_level_chance_finds_no_more_than_it_says() -> None:
    rng = np.random.default_rng(6)
    found = [scan_slices(metadata(rng, 600), rng.random(600) < 0.15, alpha=0.1).slices for _ in range(200)]
    assert sum(bool(slices) for slices in found) <= 0.1 * 200 + 3 * (0.1 * 0.9 * 200) ** 0.5


@settings(deadline=None)
@given(
    n=st.integers(1, 60).flatmap(lambda total: st.tuples(st.just(total), st.integers(1, total), st.integers(0, total))),
    part=st.floats(0, 1),
)
def test_chance_is_fishers_exact_test(n: tuple[int, int, int], part: float) -> None:
    total, size, marked = n
    errors = round(part * min(size, marked))
    if errors + (total - size) < marked:
        return  # no such table
    truth = hypergeom.sf(errors - 1, total, marked, size)
    found = worse(errors, size, marked, total)
    assert found in (1.0, pytest.approx(truth))
    assert found >= truth - 1e-9
    if found == 1.0:
        assert truth > 0.01


def test_no_error_or_nothing_but_errors_has_no_slice() -> None:
    columns = metadata(np.random.default_rng(0), 100)
    for wrong in (np.zeros(100), np.ones(100)):
        assert (scan_slices(columns, wrong).slices, scan_slices(columns, wrong).tested) == ([], 0)
    assert scan_slices({}, [0, 1]).slices == []


def test_the_number_of_tests_is_told() -> None:
    columns = {"a": np.arange(400) % 2, "b": np.arange(400) // 200}
    assert scan_slices(columns, np.arange(400) % 7 == 0).tested == 2 + 2 + 4


def test_a_column_has_a_value_a_sample() -> None:
    with pytest.raises(ValueError, match="scan_slices needs a value a sample, got 2 of 'camera' for 3 samples"):
        scan_slices({"camera": ["a", "b"]}, [0, 1, 0])


@pytest.mark.parametrize("odd", [np.inf, -np.inf, np.nan])
def test_numbers_that_are_not_finite_leave_the_others_searched(odd: float) -> None:
    rng = np.random.default_rng(0)
    numbers, wrong = rng.random(2000), rng.random(2000) < 0.05
    wrong |= numbers > 0.9
    numbers[rng.random(2000) < 0.6] = odd
    found = scan_slices({"speed": numbers}, wrong).slices
    assert any(part.conditions["speed"].startswith("> 0.") for part in found)


def test_numbers_beyond_those_of_the_tree_end_no_search() -> None:
    rng = np.random.default_rng(0)
    numbers = np.where(rng.random(2000) < 0.5, 1e300, rng.random(2000))
    assert scan_slices({"speed": numbers}, rng.random(2000) < 0.2).tested
