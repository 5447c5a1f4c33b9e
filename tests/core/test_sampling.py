"""Looks are many in a young run, and evenly spaced in an old one."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_debugkit.core.sampling import SampledSteps


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
