"""What gap the samples can show: simulated runs and the intervals themselves."""

from __future__ import annotations

import numpy as np
import pytest

from lightning_debugkit.stats.intervals import Interval, bare_interval, difference_interval, exact
from lightning_debugkit.stats.running_mean import RunningMean
from lightning_debugkit.stats.sample_size import samples_for_gap, smallest_visible_gap


def test_of_any_metric_the_visible_gap_is_seen_in_80_of_100_runs() -> None:
    rng = np.random.default_rng(1)
    first, second = rng.normal(1.0, 0.3, (2_000, 200)), rng.normal(1.0, 0.5, (2_000, 100))
    gap = float(
        np.mean(
            [
                smallest_visible_gap(RunningMean.of(a).interval(), RunningMean.of(b).interval())
                for a, b in zip(first[:100], second[:100], strict=True)
            ]
        )
    )
    found = [
        difference_interval(RunningMean.of(b + gap).interval(), RunningMean.of(a).interval()).side
        for a, b in zip(first, second, strict=True)
    ]
    assert found.count("above") / 2_000 == pytest.approx(0.8, abs=0.03)


def test_both_sets_grow_alike() -> None:
    before, after = Interval(1.0, 0.9, 1.1, 400), Interval(1.2, 1.0, 1.4, 100)
    gap = smallest_visible_gap(before, after) / 3
    assert samples_for_gap(gap, before, after) == (3_600, 900)
    assert samples_for_gap(gap, exact(1.0), after)[0] is None


@pytest.mark.parametrize(("gap", "after"), [(0.0, Interval(1.2, 1.0, 1.4, 100)), (0.1, bare_interval(1.2, 100))])
def test_without_gap_or_uncertainty_there_is_no_advice(gap: float, after: Interval) -> None:
    assert samples_for_gap(gap, exact(1.0), after) == (None, None)
