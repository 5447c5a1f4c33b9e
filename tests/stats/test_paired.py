"""Two models on the same samples: by enumeration."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch

from lightning_debugkit.stats.paired import mcnemar, paired_counts


def test_mcnemar_counts_the_splits_that_are_as_uneven() -> None:
    """All 2 ** 9 ways that nine samples can fall."""
    uneven = sum(min(sum(fall), 9 - sum(fall)) <= 2 for fall in product((0, 1), repeat=9))
    assert mcnemar(2, 7) == pytest.approx(uneven / 2**9)


def test_pairs_are_counted_from_correctness_bits() -> None:
    assert paired_counts(torch.tensor([True, True, False, False, False]), np.array([1, 0, 1, 0, 0])) == (1, 1, 1, 2)
    with pytest.raises(ValueError, match=r"needs the same samples twice, got \(2,\) and \(3,\)"):
        paired_counts([1, 0], [1, 0, 1])


def test_counts_are_not_negative() -> None:
    with pytest.raises(ValueError, match=r"mcnemar needs counts, got -1 and 3; count samples."):
        mcnemar(-1, 3)
