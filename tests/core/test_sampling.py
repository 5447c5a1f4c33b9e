"""Looks are many in a young run and evenly spaced in an old one; of points few are kept, however long it is."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_debugkit.core.sampling import SampledSteps, Thinning


@settings(max_examples=80, deadline=None)
@given(every=st.integers(1, 200), start=st.integers(0, 10_000))
def test_the_distance_grows_to_what_is_asked_and_never_beyond(every: int, start: int) -> None:
    looks = SampledSteps(every)
    taken = [step for step in range(start, start + 3000) if looks.takes(step)]
    gaps = [after - before for before, after in pairwise(taken)]
    assert taken[0] == start
    assert gaps == sorted(gaps)
    assert gaps[-1] == every
    assert all(gap <= max(1, (step - start) / 2) for step, gap in zip(taken, gaps, strict=False))


def test_a_step_of_several_batches_is_looked_at_once() -> None:
    looks = SampledSteps(1)
    assert [looks.takes(step) for step in (0, 0, 0, 1, 1)] == [True, False, False, True, False]


def test_steps_that_are_jumped_over_are_made_up_for() -> None:
    """With two optimizers a batch takes two steps."""
    looks = SampledSteps(10)
    taken = [step for step in range(0, 400, 2) if looks.takes(step)]
    assert {after - before for before, after in pairwise(taken[-10:])} == {10}


@settings(max_examples=40, deadline=None)
@given(every=st.integers(1, 200), least=st.integers(0, 400))
def test_looks_that_are_spread_are_never_closer_nor_further_than_asked(every: int, least: int) -> None:
    looks = SampledSteps(every)
    assert looks.takes(0)
    looks.spread(least)
    taken = [0, *(step for step in range(1, 3000) if looks.takes(step))]
    gaps = [after - before for before, after in pairwise(taken)]
    assert min(gaps) == max(1, min(least, every))
    assert max(gaps) == gaps[-1] == every


def kept(points: int, steps: int) -> list[int]:
    thin = Thinning(points)
    return [step for step in range(steps) if thin.keeps(step)]


def test_a_short_run_keeps_every_step() -> None:
    assert kept(100, 100) == list(range(100))


@settings(max_examples=80, deadline=None)
@given(points=st.integers(2, 60), steps=st.integers(1, 5000))
def test_a_run_of_any_length_keeps_about_as_many_points_as_asked(points: int, steps: int) -> None:
    """Each doubling of the run adds half as many as fit."""
    found = kept(points, steps)
    doublings = max(0, (steps // points).bit_length())
    assert min(points, steps) <= len(found) <= points + (points // 2 + 1) * doublings


@settings(max_examples=80, deadline=None)
@given(points=st.integers(2, 60), steps=st.integers(2, 5000))
def test_points_lie_evenly_up_to_doublings(points: int, steps: int) -> None:
    """The distance is a power of two that never shrinks, and every point is a multiple of the distance before it."""
    found = kept(points, steps)
    gaps = [after - before for before, after in pairwise(found)]
    assert found[0] == 0
    assert gaps == sorted(gaps)
    assert all(gap & (gap - 1) == 0 for gap in gaps)
    assert all(point % gap == 0 for point, gap in zip(found[1:], gaps, strict=True))


def test_a_series_seen_at_odd_steps_only_keeps_getting_points() -> None:
    """With two optimizers in turn, each is asked about at every second step."""
    thin = Thinning(points=4)
    assert max(step for step in range(1, 1000, 2) if thin.keeps(step)) > 500


def test_a_step_that_is_asked_about_twice_gets_one_point() -> None:
    """LBFGS asks for the gradients of one step many times."""
    thin = Thinning(points=100)
    assert [step for step in (0, 0, 0, 1, 1, 2) if thin.keeps(step)] == [0, 1, 2]
