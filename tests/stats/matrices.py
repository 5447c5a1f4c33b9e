"""Confusion matrices to try, and scikit-learn's kappa of one."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import cohen_kappa_score


def matrices(least: int = 1, right: int = 0) -> st.SearchStrategy[np.ndarray]:
    """Matrices of ``least`` to six classes, with at least ``right`` samples of each class told as what it is."""
    return st.integers(least, 6).flatmap(
        lambda classes: arrays(np.int64, (classes, classes), elements=st.integers(0, 9)).map(
            lambda table: table + right * np.eye(classes, dtype=np.int64)
        )
    )


def kappa(matrix: np.ndarray) -> float:
    rows, columns = np.indices(matrix.shape)
    return float(cohen_kappa_score(rows.ravel(), columns.ravel(), sample_weight=matrix.ravel()))
