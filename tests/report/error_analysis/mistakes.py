"""Run folders with an error analysis of real predictions, written in the form that the callback leaves."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.stats import binomtest
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import cohen_kappa_score
from sklearn.model_selection import cross_val_predict

from lightning_debugkit.core.journal import Journal, strict

Held = dict[str, Any]
NAMES = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]


@cache
def digits() -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.float64]]:
    """Images, labels of which some are wrong, and out-of-sample probabilities of a linear model."""
    images, labels = load_digits(return_X_y=True)
    random = np.random.default_rng(0)
    flipped = random.choice(len(labels), 40, replace=False)
    labels = labels.astype(np.int64)
    labels[flipped] = (labels[flipped] + 1 + random.integers(0, 9, flipped.size)) % 10
    model = LogisticRegression(C=0.5, max_iter=1000)
    return images, labels, cross_val_predict(model, images / 16, labels, cv=3, method="predict_proba")


def wilson(right: int, n: int, key: str = "value", of: str = "") -> Held:
    """Return a share under ``key`` with the interval of Wilson, as SciPy has it; bounds are called after ``of``."""
    if not n:
        return {key: "nan", f"{of}low": "nan", f"{of}high": "nan"}
    low, high = binomtest(int(right), int(n)).proportion_ci(method="wilson")
    return {key: float(right / n), f"{of}low": float(low), f"{of}high": float(high)}


def f1(right: int, either: int) -> Held:
    """Return F1 = 2J / (1 + J) of the share J of right answers among all that are of a class or said to be."""
    return {
        key: 2 * j / (1 + j) if isinstance(j, float) else j for key, j in wilson(right, either, "f1", "f1_").items()
    }


def of_matrix(matrix: NDArray[np.int64], classes: Sequence[str]) -> Held:
    """Return what follows from the counts alone."""
    n, right = int(matrix.sum()), int(np.trace(matrix))
    support, predicted = matrix.sum(1), matrix.sum(0)
    targets, answers = np.nonzero(matrix)
    wrong = [(int(t), int(p), int(matrix[t, p])) for t, p in zip(targets, answers, strict=True) if t != p]
    wrong.sort(key=lambda pair: -pair[2])
    repeated_t, repeated_p = (np.repeat(side, matrix[targets, answers]) for side in (targets, answers))
    return {
        "classes": list(classes),
        "task": "multiclass",
        "stage": "validate",
        "epoch": 3,
        "step": 96,
        "unit": "samples",
        "n": n,
        "broken": 0,
        "accuracy": wilson(right, n),
        "balanced_accuracy": float(np.mean(np.diag(matrix)[support > 0] / support[support > 0])),
        "kappa": float(cohen_kappa_score(repeated_t, repeated_p)) if len(classes) > 1 else "nan",
        "baseline_accuracy": float(support.max() / n),
        "confusion": [[int(t), int(p), int(matrix[t, p])] for t, p in zip(targets, answers, strict=True)],
        "most_confused": [
            {"target": t, "predicted": p, "count": count, "reverse": int(matrix[p, t]), "support": int(support[t]),
             **wilson(count, support[t], "share"), "examples": []}
            for t, p, count in wrong[:50]
        ],
        "per_class": [
            {"class": c, "support": int(support[c]), "predicted": int(predicted[c]),
             **wilson(matrix[c, c], predicted[c], "precision", "precision_"),
             **wilson(matrix[c, c], support[c], "recall", "recall_"),
             **f1(int(matrix[c, c]), int(support[c] + predicted[c] - matrix[c, c]))}
            for c in range(len(classes))
        ],
        "merge_candidates": [],
        "top_losses": [],
        "label_issues": [],
        "weak_slices": [],
        "tested_slices": 0,
        "calibration": {},
        "dynamics": None,
        "history": [],
        "notes": ["Predictions are what forward() returned, targets batch[1]."],
        "pictures": {},
        "samples": {},
        "order": list(range(len(classes))),
    }  # fmt: skip


def of_digits(folder: Path) -> Held:
    """Return the analysis of the digits' predictions, its pictures written to ``folder``."""
    images, labels, probabilities = digits()
    answers = probabilities.argmax(1)
    matrix = np.zeros((10, 10), dtype=np.int64)
    np.add.at(matrix, (labels, answers), 1)
    held = of_matrix(matrix, NAMES)
    own = probabilities[np.arange(len(labels)), labels]
    confidence, wrong = probabilities.max(1), answers != labels
    worst = np.argsort(own)[:25]
    held["top_losses"] = [
        {"loss": float(-np.log(own[i])), "target": int(labels[i]), "predicted": int(answers[i]), "index": int(i),
         "probability": float(own[i]), "confidence": float(confidence[i])}
        for i in worst
    ]  # fmt: skip
    held["label_issues"] = [
        {"index": int(i), "label": int(labels[i]), "suggested": int(answers[i]), "score": float(own[i]),
         "probability": float(confidence[i])}
        for i in worst[confidence[worst] > 0.8]
    ]  # fmt: skip
    held["label_issue_rate"] = wilson(40, len(labels))
    for pair in held["most_confused"]:
        is_pair = wrong & (labels == pair["target"]) & (answers == pair["predicted"])
        pair["examples"] = [int(i) for i in np.flatnonzero(is_pair)[:6]]
    held["merge_candidates"] = [
        {"first": 1, "second": 8, "count": int(matrix[1, 8] + matrix[8, 1]), "accuracy": held["accuracy"]["value"],
         "accuracy_merged": held["accuracy"]["value"] + (matrix[1, 8] + matrix[8, 1]) / len(labels),
         "kappa": held["kappa"], "kappa_merged": held["kappa"] + 0.01, "cannot_tell": 0.4}
    ]  # fmt: skip
    held["calibration"] = calibration(confidence, ~wrong)
    dark = images.mean(1) > 5.6
    held["tested_slices"] = 14
    held["weak_slices"] = [
        {
            "conditions": {"ink": "above 5.6", "writer": "<b>&7</b>"},
            "n": int(dark.sum()),
            "errors": int(wrong[dark].sum()),
            **wilson(int(wrong[dark].sum()), int(dark.sum()), "rate"),
            "rest_rate": float(wrong[~dark].mean()),
            "p": 0.004,
        }
    ]
    random = np.random.default_rng(1)
    points = [[float(4 * p * (1 - p) * 0.45 * random.random()), float(p), float(p > 0.5)] for p in own[::2]]
    held["dynamics"] = {
        "regions": {"easy": 1640, "ambiguous": 101, "hard": 56},
        "points": points,
        "hardest": [
            {"index": int(i), "confidence": float(own[i]), "variability": 0.02, "forgets": 2, "aum": -3.1}
            for i in worst[:10]
        ],
    }
    held["history"] = [
        {"epoch": e, "step": 24 * (e + 1), "accuracy": 0.8 + 0.04 * e, "pairs": [[8, 1, 50 - 12 * e], [9, 3, 20 - e]]}
        for e in range(4)
    ]
    examples = [i for pair in held["most_confused"][:8] for i in pair["examples"]]
    shown = list(dict.fromkeys([*worst.tolist(), *examples]))[:64]
    held["pictures"] = {str(i): picture(folder, i, images[i].reshape(8, 8) / 16) for i in shown}
    return held


def calibration(confidence: NDArray[np.float64], right: NDArray[np.bool_], bins: int = 15) -> Held:
    """Return the reliability of the confidence in bins of equal width."""
    place = np.minimum((confidence * bins).astype(int), bins - 1)
    rows = []
    for at in range(bins):
        inside = place == at
        n = int(inside.sum())
        mean = float(confidence[inside].mean()) if n else "nan"
        rows.append(
            {"low": at / bins, "high": (at + 1) / bins, "n": n, "confidence": mean,
             **wilson(int(right[inside].sum()), n, "accuracy", "accuracy_")}
        )  # fmt: skip
    gaps = [row["n"] * abs(row["confidence"] - row["accuracy"]) for row in rows if row["n"]]
    error = float(sum(gaps) / len(confidence))
    return {"bins": rows, "ece": error, "ece_low": 0.9 * error, "ece_high": 1.1 * error}


def picture(folder: Path, index: int, pixels: NDArray[np.float64]) -> str:
    """Write a picture and return its path in the run folder."""
    path = folder / "errors" / f"{index}.png"
    path.parent.mkdir(exist_ok=True)
    Image.fromarray((255 * pixels).astype(np.uint8)).save(path)
    return f"errors/{index}.png"


def of_many(classes: int, n: int = 200_000, seed: int = 0) -> Held:
    """Return the analysis of many classes in families of ten that are taken for each other."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, classes, n)
    answers = labels.copy()
    wrong = random.random(n) < 0.25
    family = labels // 10 * 10 + random.integers(0, 10, n)
    answers[wrong] = np.where(random.random(n) < 0.8, family % classes, random.integers(0, classes, n))[wrong]
    names = [f"n{c:08d} class of {NAMES[c % 10]}s and more" for c in range(classes)]
    shuffled = random.permutation(classes)
    matrix = np.zeros((classes, classes), dtype=np.int64)
    np.add.at(matrix, (shuffled[labels], shuffled[answers]), 1)
    held = of_matrix(matrix, names)
    held["order"] = [int(c) for c in shuffled]
    return held


def write(folder: Path, held: object, stage: str = "validate") -> Path:
    """Write an analysis and its event into a run folder."""
    name = "errors.json" if stage == "validate" else "errors-test.json"
    journal = Journal(folder)
    if not journal.path.exists():
        journal.append({"kind": "run", "rank": 0, "world_size": 1})
    (folder / name).write_text(held if isinstance(held, str) else json.dumps(strict(held), allow_nan=False))
    journal.append({
        "kind": "artifact", "what": "error-analysis", "path": name, "stage": stage, "epoch": 3, "step": 96, "rank": 0,
    })  # fmt: skip
    return folder
