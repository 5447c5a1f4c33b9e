"""What simple models make of the same samples: a network that does no better has not earned its cost."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightning_debugkit.stats.intervals import wilson

SAMPLES = 2000  # of each split
COLUMNS = 256  # of wider inputs, the ones that vary most
CLASSES = 100
SECONDS = 10.0  # none is begun later
DRAWS = 1000  # of the bootstrap
EXTRA = "scikit-learn is not installed: pip install 'lightning-debugkit[demo]'"

Array = NDArray[Any]


def baselines(train: Array, wanted: Array, val: Array, answers: Array) -> dict[str, Any]:
    """Return the validation scores of simple models, each with the seconds that it took.

    Classes are scored by accuracy with Wilson's interval, numbers by R2 with a bootstrapped one.

    Args:
        train: Training inputs ``(n, d)``.
        wanted: Their classes, whole numbers ``(n,)``, or numbers.
        val: Validation inputs ``(k, d)``.
        answers: Their classes or numbers.
    """
    is_classes = np.issubdtype(wanted.dtype, np.integer)
    if len(np.unique(wanted)) < 2 or (is_classes and len(np.unique(wanted)) > CLASSES):
        return {"left_out": "there is one class, or there are too many"}
    try:
        models = list(_classifiers() if is_classes else _regressors())
    except ImportError:
        return {"left_out": EXTRA}
    chosen = np.argsort(-train.std(0), kind="stable")[:COLUMNS]
    train, wanted = train[:SAMPLES, chosen], wanted[:SAMPLES]
    val, answers = val[:SAMPLES, chosen], answers[:SAMPLES]
    rows, began = [], time.monotonic()
    for name, make in models:
        start = time.monotonic()
        if start - began > SECONDS:
            break
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that a solver stopped early is no news here
            told = make().fit(train, wanted).predict(val)
        score = _accuracy(told, answers) if is_classes else _r2(told, answers)
        rows.append({"model": name, **score, "seconds": round(time.monotonic() - start, 2)})
    metric = "accuracy" if is_classes else "R2"
    return {"metric": metric, "rows": rows, "trained": len(train), "validated": len(val)}


def _classifiers() -> Iterator[tuple[str, Callable[[], Any]]]:
    from sklearn.dummy import DummyClassifier
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    yield "most frequent class", DummyClassifier
    yield "logistic regression", lambda: make_pipeline(StandardScaler(), LogisticRegression(max_iter=100))
    yield "gradient boosting", lambda: HistGradientBoostingClassifier(max_iter=20, max_leaf_nodes=15, random_state=0)


def _regressors() -> Iterator[tuple[str, Callable[[], Any]]]:
    from sklearn.dummy import DummyRegressor
    from sklearn.ensemble import HistGradientBoostingRegressor
    from sklearn.linear_model import RidgeCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    yield "mean", DummyRegressor
    yield "ridge regression", lambda: make_pipeline(StandardScaler(), RidgeCV(np.logspace(-3, 3, 7)))
    yield "gradient boosting", lambda: HistGradientBoostingRegressor(max_iter=100, random_state=0)


def _accuracy(told: Array, answers: Array) -> dict[str, float]:
    found = wilson(int((told == answers).sum()), len(answers))
    return {"value": found.value, "low": found.low, "high": found.high}


def _r2(told: Array, answers: Array) -> dict[str, float]:
    """Return the share of the variance that is explained; the bootstrap draws from a generator of its own."""
    errors, spread = (told - answers) ** 2, (answers - answers.mean()) ** 2
    if not spread.sum():
        return {"value": float("nan"), "low": float("nan"), "high": float("nan")}
    rows = np.random.default_rng(0).integers(0, len(answers), (DRAWS, len(answers)))
    drawn = 1 - errors[rows].sum(1) / spread[rows].sum(1).clip(1e-12)
    low, high = np.quantile(drawn, (0.025, 0.975))
    return {"value": float(1 - errors.sum() / spread.sum()), "low": float(low), "high": float(high)}
