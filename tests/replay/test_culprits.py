"""The samples that cause a fault are found, by few runs of parts of the batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_debugkit.replay.culprits import culprits


def singles(bad: set[int]) -> Callable[[Sequence[int]], bool]:
    return lambda part: bool(bad & set(part))


def together(bad: set[int]) -> Callable[[Sequence[int]], bool]:
    return lambda part: bad <= set(part)


def in_pairs_only(fails: Callable[[Sequence[int]], bool]) -> Callable[[Sequence[int]], bool | None]:
    """Batch norm: a single sample cannot be run."""
    return lambda part: None if len(part) < 2 else fails(part)


some_of = st.integers(2, 64).flatmap(
    lambda size: st.tuples(st.just(size), st.sets(st.integers(0, size - 1), min_size=1, max_size=4))
)


@settings(max_examples=150, deadline=None)
@given(some_of)
def test_exactly_the_samples_that_show_it_alone_are_named(drawn: tuple[int, set[int]]) -> None:
    size, bad = drawn
    if len(bad) < size:
        assert culprits(singles(bad), size, max_runs=1000) == (sorted(bad), "")


@settings(max_examples=150, deadline=None)
@given(some_of, st.data())
def test_a_hint_right_or_wrong_changes_only_the_cost(drawn: tuple[int, set[int]], data: st.DataObject) -> None:
    size, bad = drawn
    hint = data.draw(st.one_of(st.just(sorted(bad)), st.lists(st.integers(0, size - 1), unique=True).map(sorted)))
    if len(bad) < size and (bad <= set(hint) or not bad & set(hint)):
        assert culprits(singles(bad), size, hint, max_runs=1000) == (sorted(bad), "")


@settings(max_examples=100, deadline=None)
@given(some_of)
def test_a_set_that_fails_only_together_is_found_whole_and_no_larger(drawn: tuple[int, set[int]]) -> None:
    size, bad = drawn
    if 1 < len(bad) < size:
        assert culprits(together(bad), size, max_runs=10_000) == (sorted(bad), "only together")


@settings(max_examples=100, deadline=None)
@given(st.integers(4, 64).flatmap(lambda size: st.tuples(st.just(size), st.sets(st.integers(0, size - 1), max_size=1))))
def test_one_bad_sample_is_named_although_it_cannot_be_run_alone(drawn: tuple[int, set[int]]) -> None:
    """No innocent sample that kept it company is named with it."""
    size, bad = drawn
    found, note = culprits(in_pairs_only(singles(bad)), size)
    assert found == sorted(bad)
    assert bad or note == "the fault did not recur when the batch was run in parts"


def test_a_fault_of_every_pair_is_not_blamed_on_the_first() -> None:
    """The loss itself is broken, whatever the samples; batch norm forbids to see it in one alone."""
    assert culprits(in_pairs_only(lambda part: True), 8) == ([], "every part of the batch that can be run causes it")


def test_a_fault_of_every_sample_names_none() -> None:
    assert culprits(lambda part: True, 8) == ([], "each single sample causes it")


def test_a_sample_that_breaks_only_because_it_is_alone_is_innocent() -> None:
    """The spread within each class: of a class with one member there is none."""
    classes = [0, 1, 2, 0, 3, 1, 2, 0, 0, 1, 2, 0, 1, 2, 0, 1]

    def fails(part: Sequence[int]) -> bool:
        held = [classes[at] for at in part]
        return any(held.count(kind) == 1 for kind in held)

    assert culprits(fails, 16) == ([4], "")


@pytest.mark.parametrize(("bad", "told"), [({3}, ([3], "")), (set(range(8)), ([], "each single sample causes it"))])
def test_single_samples_are_tried_where_a_fixed_size_lets_no_larger_part_run(bad: set[int], told: object) -> None:
    """As of a memory bank that takes a whole batch, or one row for all."""
    assert culprits(lambda part: bool(bad & set(part)) if len(part) in (1, 8) else None, 8) == told


def test_a_fault_of_the_whole_batch_names_none() -> None:
    assert culprits(lambda part: len(part) == 8, 8) == ([], "only the whole batch causes it")


def test_a_batch_that_cannot_be_run_in_parts_says_so() -> None:
    def fails(part: list[int]) -> bool | None:
        return True if len(part) == 8 else None

    assert culprits(fails, 8) == ([], "parts of the batch cannot be run alone")


def test_a_fault_that_does_not_strike_again_names_none() -> None:
    assert culprits(lambda part: False, 8) == ([], "the fault did not recur when the batch was run in parts")


@settings(max_examples=60, deadline=None)
@given(some_of, st.integers(1, 12))
def test_no_more_parts_are_run_than_allowed(drawn: tuple[int, set[int]], allowed: int) -> None:
    size, bad = drawn
    runs: list[tuple[int, ...]] = []

    def fails(part: Sequence[int]) -> bool:
        runs.append(tuple(part))
        return bad <= set(part)

    found, note = culprits(fails, size, max_runs=allowed)
    assert len(runs) <= allowed
    assert len(set(runs)) == len(runs)
    assert found or note


@pytest.mark.parametrize("bad", [{5}, {0}, {63}])
def test_one_of_64_is_found_in_a_logarithmic_number_of_runs(bad: set[int]) -> None:
    count = 0

    def fails(part: Sequence[int]) -> bool:
        nonlocal count
        count += 1
        return singles(bad)(part)

    assert culprits(fails, 64) == (sorted(bad), "")
    assert count <= 13


def test_with_a_right_hint_one_run_is_enough() -> None:
    count = 0

    def fails(part: Sequence[int]) -> bool:
        nonlocal count
        count += 1
        return 5 in part

    assert culprits(fails, 64, hint=[5]) == ([5], "")
    assert count == 1
