"""Training dynamics against loops over the history of each sample."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_debugkit.stats.training_dynamics import AMBIGUOUS, EASY, HARD, UNSEEN, Dynamics, gathered_dynamics


def history(n: int, epochs: int, seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Probability, correctness and margin of each sample in each epoch."""
    make = torch.Generator().manual_seed(seed)
    p = torch.rand(epochs, n, generator=make)
    return p, p > 0.5, torch.randn(epochs, n, generator=make)


def epoch(dynamics: Dynamics, order: torch.Tensor, rows: tuple[torch.Tensor, ...], batch: int = 3) -> None:
    for index in order.split(batch):
        dynamics.update(index, *(row[index] for row in rows))


@settings(deadline=None, max_examples=40)
@given(n=st.integers(1, 12), epochs=st.integers(1, 8), seed=st.integers(0, 999))
def test_sums_are_those_of_each_samples_history(n: int, epochs: int, seed: int) -> None:
    columns, dynamics = history(n, epochs, seed), Dynamics(n)
    for number in range(epochs):
        epoch(dynamics, torch.randperm(n), tuple(column[number] for column in columns))
    course, (p, correct, margin) = dynamics.course(), (column.double().numpy() for column in columns)
    assert course.confidence == pytest.approx(p.mean(axis=0), abs=1e-6)
    assert course.variability == pytest.approx(p.std(axis=0), abs=1e-3)
    assert course.aum == pytest.approx(margin.mean(axis=0), abs=1e-5)
    assert course.correct.tolist() == correct.sum(axis=0).tolist()
    assert course.forgets.tolist() == ((correct[:-1] == 1) & (correct[1:] == 0)).sum(axis=0).tolist()
    assert course.ever_learnt.tolist() == correct.any(axis=0).tolist()
    assert (course.seen == epochs).all()


@settings(deadline=None, max_examples=40)
@given(n=st.integers(2, 12), epochs=st.integers(1, 6), seed=st.integers(0, 999), ranks=st.integers(2, 3))
def test_ranks_that_see_other_samples_in_each_epoch_give_what_one_process_gives(
    n: int, epochs: int, seed: int, ranks: int
) -> None:
    columns, alone, together = history(n, epochs, seed), Dynamics(n), Dynamics(n)
    for number in range(epochs):
        rows, order = tuple(column[number] for column in columns), torch.randperm(n)
        epoch(alone, order, rows)
        parts = [Dynamics.of(together.state()) for _ in range(ranks)]
        for rank, part in enumerate(parts):
            epoch(part, order[rank::ranks], rows)
        together = gathered_dynamics(together, parts)
    one, other = alone.state(), together.state()
    for name in one:
        assert torch.allclose(one[name].double(), other[name].double(), atol=1e-5), name


def test_a_sample_takes_19_bytes() -> None:
    assert sum(column.element_size() for column in Dynamics(5).state().values()) == 19


def test_what_is_no_sample_or_no_number_is_left_out() -> None:
    dynamics = Dynamics(2)
    p = torch.tensor([0.5, 0.5, torch.nan, 0.5, 0.25])
    dynamics.update(torch.tensor([-1, 2, 1, 1, 0]), p, torch.ones(5).bool(), torch.ones(5))
    assert dynamics.course().seen.tolist() == [1, 1]
    assert dynamics.course().confidence.tolist() == [0.25, 0.5]


def test_a_sample_that_is_in_a_batch_twice_counts_twice() -> None:
    dynamics = Dynamics(1)
    dynamics.update(torch.tensor([0, 0]), torch.tensor([0.2, 0.4]), torch.ones(2).bool(), torch.tensor([1.0, 3.0]))
    course = dynamics.course()
    assert (course.seen[0], course.correct[0]) == (2, 2)
    assert (course.confidence[0], course.aum[0]) == pytest.approx((0.3, 2.0))


def test_samples_are_counted_until_the_counter_is_full() -> None:
    dynamics, index = Dynamics(1), torch.zeros(1_000, dtype=torch.int64)
    for _ in range(34):
        dynamics.update(index, torch.full((1_000,), 0.5), index == 0, torch.ones(1_000))
    course = dynamics.course()
    assert 16_384 <= course.seen[0] < 16_384 + 1_000
    assert course.confidence[0] == pytest.approx(0.5)


def test_regions_tell_what_is_learnt_from_what_wavers_and_what_is_not() -> None:
    dynamics = Dynamics(10)
    p = torch.tensor([0.97] * 4 + [0.03] * 2 + [0.0] * 3 + [0.0])
    for number in range(6):
        row = p.clone()
        row[6:9] = 0.9 if number % 2 else 0.1
        dynamics.update(torch.arange(9), row[:9], row[:9] > 0.5, row[:9])
    expected = [EASY] * 4 + [HARD] * 2 + [AMBIGUOUS] * 3 + [UNSEEN]
    assert dynamics.course().region().tolist() == expected


def test_merging_adds_what_another_saw_and_copies_go_on() -> None:
    p = torch.tensor([0.5])
    one, other = Dynamics(3), Dynamics(3)
    one.update(torch.tensor([0]), p, p > 0, p)
    other.update(torch.tensor([2]), p, p > 0, p)
    copied = copy.deepcopy(other)
    one.merge(copied)
    assert one.course().seen.tolist() == [1, 0, 1]
    assert np.isnan(one.course().confidence[1])
    one.update(torch.tensor([2]), p, p < 0, p)
    assert one.course().forgets.tolist() == [0, 0, 1]


def test_arguments_are_checked() -> None:
    with pytest.raises(ValueError, match="Dynamics needs n >= 1, got 0; give the length of the training set"):
        Dynamics(0)
    with pytest.raises(ValueError, match="Dynamics needs parts of 2 samples, got one of 3"):
        gathered_dynamics(Dynamics(2), [Dynamics(3)])
