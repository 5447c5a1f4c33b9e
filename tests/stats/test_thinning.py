"""Thinning keeps few points, evenly spread, however long the run is."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_debugkit.stats.thinning import Thinning


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
