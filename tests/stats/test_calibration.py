"""Calibration against a loop and torchmetrics, and its intervals against the distance that is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from stats.coverage import holds
from torchmetrics.functional.classification import binary_calibration_error

from lightning_debugkit.stats.calibration import Calibration

samples = st.lists(st.tuples(st.floats(0, 1, width=32), st.booleans()), max_size=60)


def counted(confidence: np.ndarray, correct: np.ndarray, bins: int = 15, batch: int = 7) -> Calibration:
    calibration = Calibration(bins)
    for at in range(0, len(confidence), batch):
        part = slice(at, at + batch)
        calibration.update(torch.tensor(confidence[part]).float(), torch.tensor(correct[part]).bool())
    return calibration


def drawn(n: int, shift: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Confidence, and correctness of a model that is less often right by ``shift`` than it says."""
    confidence = rng.beta(5, 2, size=n) * 0.7 + 0.3
    return confidence, rng.random(n) < np.clip(confidence - shift, 0, 1)


@settings(deadline=None)
@given(cases=samples, bins=st.integers(1, 20))
def test_bins_are_those_of_a_loop(cases: list[tuple[float, bool]], bins: int) -> None:
    held: dict[int, list[tuple[float, bool]]] = {}
    edges = [float(edge) for edge in torch.arange(1, bins) / bins]
    for confidence, correct in cases:
        held.setdefault(sum(confidence > edge for edge in edges), []).append((confidence, correct))
    found = counted(*map(np.array, zip(*cases, strict=True)), bins=bins) if cases else Calibration(bins)
    assert [(one.n, one.low) for one in found.reliability()] == [(len(held[k]), k / bins) for k in sorted(held)]
    error = 0.0
    for one, key in zip(found.reliability(), sorted(held), strict=True):
        confidence, accuracy = (sum(row[side] for row in held[key]) / one.n for side in (0, 1))
        assert (one.confidence, one.accuracy.value) == pytest.approx((confidence, accuracy), abs=1e-8)
        error += one.n / len(cases) * abs(accuracy - confidence)
    assert found.ece().value == pytest.approx(error, abs=1e-8) if cases else math.isnan(found.ece().value)


def test_the_error_is_torchmetrics() -> None:
    confidence, correct = drawn(5_000, 0.1, np.random.default_rng(0))
    values = torch.tensor(confidence).float()
    theirs = binary_calibration_error(values, torch.tensor(correct).long(), n_bins=15, norm="l1")
    assert counted(confidence, correct, batch=500).ece().value == pytest.approx(float(theirs), abs=1e-6)


@settings(deadline=None)
@given(cases=samples, cut=st.integers(0, 60), order=st.randoms(use_true_random=False))
def test_parts_in_any_order_are_the_whole_to_the_last_bit(
    cases: list[tuple[float, bool]], cut: int, order: object
) -> None:
    mixed = list(cases)
    order.shuffle(mixed)
    parts = [
        counted(np.array([row[0] for row in rows]), np.array([row[1] for row in rows]))
        for rows in (mixed[:cut], mixed[cut:], cases)
    ]
    parts[0].merge(Calibration.of(parts[1].state()))
    assert torch.equal(parts[0].state()["sums"], parts[2].state()["sums"])


@pytest.mark.parametrize("shift", [0.0, 0.03, 0.15])
@pytest.mark.parametrize("n", [300, 3_000])
def test_the_interval_holds_the_distance_of_endless_samples(n: int, shift: float) -> None:
    """Of a model that is too sure by ``shift``, but for where its accuracy cannot fall below 0."""
    rng = np.random.default_rng(1)
    intervals = [counted(*drawn(n, shift, rng), batch=n).ece() for _ in range(300)]
    assert holds(intervals, shift) >= 0.93


def test_a_perfect_model_of_few_samples_seems_off_but_the_interval_knows() -> None:
    found = counted(*drawn(300, 0.0, np.random.default_rng(2)), batch=300).ece()
    assert found.value > 0.03
    assert found.low == 0.0


def test_more_samples_leave_less_open() -> None:
    widths = []
    for n in (500, 50_000):
        found = counted(*drawn(n, 0.1, np.random.default_rng(3)), batch=n).ece()
        assert found.low < 0.1 < found.high + 0.01
        widths.append(found.high - found.low)
    assert widths[1] < widths[0] / 4


def test_the_gap_is_a_mean_with_its_interval() -> None:
    rng = np.random.default_rng(4)
    runs = [drawn(400, 0.1, rng) for _ in range(1_000)]
    gaps = [counted(*run, batch=400).gap() for run in runs]
    assert gaps[0].value == pytest.approx(runs[0][0].mean() - runs[0][1].mean(), abs=1e-7)
    assert 0.93 <= holds(gaps, 0.1) <= 0.97


def test_what_is_no_probability_is_left_out_and_counted() -> None:
    calibration = Calibration()
    calibration.update(torch.tensor([0.5, torch.nan, -0.1, 1.1, 1.0]), torch.ones(5, dtype=torch.bool))
    assert calibration.broken == 3
    assert [(one.n, one.confidence) for one in calibration.reliability()] == [(1, 0.5), (1, 1.0)]


def test_arguments_are_checked() -> None:
    with pytest.raises(ValueError, match="Calibration needs bins >= 1, got 0; 15 are usual"):
        Calibration(0)
    with pytest.raises(ValueError, match="Calibration needs one confidence a prediction"):
        Calibration().update(torch.ones(2), torch.ones(3))
    with pytest.raises(ValueError, match="Calibration needs as many bins as the other's 3, got 4"):
        Calibration(4).merge(Calibration(3))


def test_bins_that_are_all_right_may_be_so_by_chance() -> None:
    """Ten samples of 90 %: that none is wrong happens in a third of all such tens."""
    calibration = Calibration()
    calibration.update(torch.full((10,), 0.9), torch.ones(10, dtype=torch.bool))
    found = calibration.ece()
    assert found.value == pytest.approx(0.1)
    assert found.low < 0.01 < 0.11 < found.high
