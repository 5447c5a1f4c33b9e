"""Two classes are called one only where the model hardly tells them apart, beyond chance."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from evaluation.erring import loader, run
from torch import Tensor

from lightning_debugkit import Finding, read_journal

pytestmark = pytest.mark.filterwarnings("ignore")


def answers(matrix: Any) -> tuple[Tensor, Tensor]:
    """Scores and targets that are counted as this matrix."""
    counts = np.asarray(matrix)
    target, predicted = (np.repeat(side.ravel(), counts.ravel()) for side in np.indices(counts.shape))
    return 5.0 * F.one_hot(torch.as_tensor(predicted), len(counts)), torch.as_tensor(target)


def judged(folder: Path, matrix: Any) -> tuple[dict[str, Finding], dict[str, Any]]:
    """The findings by rule, and the first candidate of the report's table."""
    held = run(folder, loader(*answers(matrix), size=256))
    return {one.rule: one for one in read_journal(folder / "debugkit").findings}, held["merge_candidates"][0]


def mixed_up(of_pair: int, classes: int = 6, size: int = 500, elsewhere: int = 10) -> Any:
    """Of each class so many are taken for each other one; the first two are taken for each other more often."""
    counts = np.full((classes, classes), elsewhere)
    counts[0, 1] = counts[1, 0] = of_pair
    np.fill_diagonal(counts, 0)
    return counts + np.diag(size - counts.sum(1))


def test_a_pair_that_is_mostly_told_apart_is_no_candidate_however_sure_the_rise(tmp_path: Path) -> None:
    found, first = judged(tmp_path, mixed_up(60))
    assert found["confused-classes"].evidence["classes"] == [0, 1]
    assert first["rise_low"] > 0
    assert first["told_apart"] == pytest.approx(1 - 2 * 60 / 460, abs=0.02)
    assert "merge-candidate" not in found


def test_where_few_samples_leave_it_open_nothing_is_told(tmp_path: Path) -> None:
    found, first = judged(tmp_path, mixed_up(30, classes=12, size=120, elsewhere=2))
    assert found["confused-classes"].evidence["classes"] == [0, 1]
    assert first["told_apart"] < 0.5 < first["told_apart_high"]
    assert "merge-candidate" not in found


def test_a_pair_of_which_more_is_lost_than_kept_is_one(tmp_path: Path) -> None:
    found, first = judged(tmp_path, mixed_up(180))
    told = found["merge-candidate"]
    assert told.evidence["classes"] == [0, 1]
    assert told.message == (
        "in validation, 0 and 1 are taken for each other 360 times, with a kappa of 0.22 between the two (at "
        f"most 0.28): as one class, kappa of all would rise from {first['kappa']:.3f} to {first['kappa_merged']:.3f}"
    )


def test_a_model_that_is_no_better_than_chance_tells_nothing_of_its_classes(tmp_path: Path) -> None:
    """Each class is taken for a neighbour, the first two for each other: kappa is far below 0, and would rise."""
    counts = np.zeros((6, 6), dtype=int)
    for target, predicted in ((0, 1), (1, 0), (2, 3), (3, 4), (4, 5), (5, 2)):
        counts[target, predicted] = 200 if target < 2 else 90
        counts[target, target] = 5
    found, first = judged(tmp_path, counts)
    assert (first["first"], first["second"], first["kappa"] < 0, first["rise_low"] > 0) == (0, 1, True, True)
    assert "merge-candidate" not in found
