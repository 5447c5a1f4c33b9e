"""How many samples to evaluate, where training data end: nobody is sent for samples that are not there."""

from __future__ import annotations

import pytest

from lightning_debugkit.evaluation.bias_variance.bias_variance_rules import conclude
from lightning_debugkit.evaluation.bias_variance.measured_case import BiasVarianceCase
from lightning_debugkit.evaluation.bias_variance.training_facts import TrainingFacts
from lightning_debugkit.evaluation.bias_variance.units_of_error import Unit
from lightning_debugkit.stats.intervals import Interval, wilson
from lightning_debugkit.stats.sample_size import samples_after_for_gap, smallest_visible_gap


def first_step(evaluated: int, there: int | None, train: float = 0.07, val: float = 0.085, n: int = 400) -> str:
    errors = {"train": wilson(round(evaluated * train), evaluated), "val": wilson(round(n * val), n)}
    return conclude(BiasVarianceCase(Unit("error"), errors, facts=TrainingFacts(samples=there))).next[0]


def test_more_training_samples_than_there_are_are_not_asked_for() -> None:
    assert first_step(1400, None).startswith("Evaluate about "), "so it is said where their number is not known"
    assert first_step(1400, 1400) == (
        "Judge by the other gaps or collect more data: a true gap of 1.5 points cannot be seen with the 1,400 training "
        "samples that there are, however many validation samples are evaluated."
    )


def test_where_validation_data_alone_can_show_it_their_number_is_named() -> None:
    told = first_step(5000, 5000, val=0.09)
    assert told.startswith("Evaluate about ")
    assert "training samples" not in told
    assert "validation samples instead of 400: a true gap of 2 points would show." in told


def test_training_samples_that_were_not_evaluated_come_first() -> None:
    told = first_step(1000, 5000, val=0.09)
    assert told.startswith("Evaluate all 5,000 training samples instead of 1,000 and about ")


def test_training_data_that_suffice_are_asked_for_as_ever() -> None:
    assert first_step(1400, 10**6) == first_step(1400, None)


@pytest.mark.parametrize("most", [500, 2000])
def test_so_many_samples_make_the_gap_the_smallest_that_is_visible(most: int) -> None:
    """The second road: shrink both intervals by hand."""
    before, after = Interval(0.1, 0.09, 0.11, n=500), Interval(0.13, 0.1, 0.16, n=100)
    n = samples_after_for_gap(0.03, before, after, most)
    assert n is not None
    half, other = 0.01 * (500 / most) ** 0.5, 0.03 * (100 / n) ** 0.5
    grown = Interval(0.1, 0.1 - half, 0.1 + half, n=most), Interval(0.13, 0.13 - other, 0.13 + other, n=n)
    assert smallest_visible_gap(*grown) == pytest.approx(0.03, rel=0.01)
