"""A state is lasting when looks, steps and samples are enough, and not one look broke it."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_debugkit.stats.consecutive import Consecutive

Looked = list[tuple[int, int, list[bool]]]


def of(history: Looked, **least: int) -> Consecutive:
    streaks = Consecutive(3, **least)
    for step, samples, so in history:
        streaks.add(torch.tensor(so), step, samples)
    return streaks


@st.composite
def histories(draw: st.DrawFn) -> Looked:
    gaps = draw(st.lists(st.integers(1, 9), min_size=1, max_size=25))
    steps = [sum(gaps[:index]) for index in range(len(gaps))]
    flags = st.lists(st.booleans(), min_size=3, max_size=3)
    return [(step, draw(st.integers(1, 40)), draw(flags)) for step in steps]


@settings(max_examples=200, deadline=None)
@given(history=histories())
def test_lasting_is_what_a_search_over_all_windows_finds(history: Looked) -> None:
    """The second road looks at every last part of the history that is long enough."""
    found = of(history, looks=3, steps=8, samples=50)
    enough = [
        history[-count:]
        for count in range(3, len(history) + 1)
        if history[-1][0] - history[-count][0] >= 8 and sum(samples for _, samples, _ in history[-count:]) >= 50
    ]
    expected = [any(all(so[unit] for _, _, so in window) for window in enough) for unit in range(3)]
    assert found.lasting().tolist() == expected
    assert found.window == (len(enough[0]) if enough else 0)


def test_one_look_between_breaks_the_streak() -> None:
    always, once = [True] * 3, [True, False, True]
    looks = [(step, 30, once if step == 20 else always) for step in range(0, 40, 4)]
    assert of(looks, looks=5, steps=20, samples=100).lasting().tolist() == [True, False, True]
    assert of(looks[:9], looks=5, steps=4, samples=100).unbroken.tolist() == [True, False, True]


def test_looks_in_a_row_of_steps_do_not_last() -> None:
    assert of([(step, 100, [True] * 3) for step in range(10)]).window == 0


def test_looks_at_single_samples_do_not_last_before_there_are_enough() -> None:
    looks = [(10 * step, 1, [True] * 3) for step in range(120)]
    assert (of(looks[:99]).window, of(looks).window) == (0, 100)
