"""Label issues from records against cleanlab on all probabilities, and against labels flipped in known places."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_predict

from lightning_debugkit.stats.confident_learning import EQUAL, guesses, thresholds
from lightning_debugkit.stats.label_issues import label_issues
from lightning_debugkit.stats.sample_records import Records


def noisy(n: int, classes: int, flip: float, sharp: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Probabilities in single precision, labels of which a share is flipped to a like class, and where."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(classes, size=n)
    logits = rng.normal(size=(n, classes)) + sharp * np.eye(classes)[truth]
    logits[np.arange(n), (truth + 1) % classes] += sharp / 3
    wrong = rng.random(n) < flip
    label = np.where(wrong, (truth + rng.integers(1, min(classes, 4), size=n)) % classes, truth)
    return torch.from_numpy(logits).softmax(1).float().numpy(), label, wrong


def recorded(probabilities: np.ndarray, label: np.ndarray) -> Records:
    records = Records()
    records.update(torch.from_numpy(probabilities), torch.from_numpy(label), is_logits=False)
    return records


def cleanlabs(probabilities: np.ndarray, label: np.ndarray, filter_by: str = "prune_by_noise_rate") -> list[int]:
    filters = pytest.importorskip("cleanlab.filter")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of classes with few samples
        options = {"filter_by": filter_by, "return_indices_ranked_by": "self_confidence", "n_jobs": 1}
        return filters.find_label_issues(label, probabilities.astype(np.float64), **options).tolist()


def believed_elsewhere(probabilities: np.ndarray, label: np.ndarray) -> list[int]:
    """The samples that are believed to be of another class than their label, which the model prefers, too."""
    table = recorded(probabilities, label).table()
    guess = guesses(table, thresholds(table, probabilities.shape[1]))
    rivals = table.confidence > table.probability + EQUAL
    return np.flatnonzero((guess.label >= 0) & (guess.label != table.label) & rivals).tolist()


@pytest.mark.parametrize(
    ("n", "classes", "flip", "sharp"),
    [(4_000, 2, 0.1, 3.0), (5_000, 3, 0.2, 2.5), (20_000, 10, 0.05, 6.0), (20_000, 100, 0.05, 9.0), (800, 4, 0.0, 5.0)],
)
def test_issues_are_cleanlabs(n: int, classes: int, flip: float, sharp: float) -> None:
    probabilities, label, _ = noisy(n, classes, flip, sharp)
    found = label_issues(recorded(probabilities, label))
    truth = cleanlabs(probabilities, label)
    if classes < 100:
        assert found.is_exact
        assert sorted(found.indices.tolist()) == sorted(truth)
        assert believed_elsewhere(probabilities, label) == sorted(cleanlabs(probabilities, label, "confident_learning"))
        assert found.scores.tolist() == pytest.approx(probabilities[truth, label[truth]].tolist())
    else:  # the three likeliest classes leave a few samples open, and the difference is among them
        assert found.uncertain <= 0.02 * len(truth)
        assert len(set(found.indices.tolist()) ^ set(truth)) <= found.uncertain


@settings(deadline=None, max_examples=60)
@given(
    n=st.integers(20, 120),
    classes=st.integers(2, 16),
    flip=st.floats(0, 0.6),
    sharp=st.floats(0.0, 6.0),
    seed=st.integers(0, 10_000),
)
def test_whatever_is_said_to_be_exact_is_cleanlabs(n: int, classes: int, flip: float, sharp: float, seed: int) -> None:
    """Even where classes are rare, noise is high or the model knows nothing; otherwise few samples are uncertain."""
    probabilities, label, _ = noisy(n, classes, flip, sharp, seed)
    label[:classes] = np.arange(classes)
    found = label_issues(recorded(probabilities, label))
    truth = set(cleanlabs(probabilities, label))
    if found.is_exact:
        assert set(found.indices.tolist()) == truth
    elif not guesses(
        recorded(probabilities, label).table(), thresholds(recorded(probabilities, label).table(), classes)
    ).is_open.any():
        assert len(set(found.indices.tolist()) ^ truth) <= found.uncertain


def test_a_model_that_knows_nothing_of_many_classes_is_not_called_exact() -> None:
    probabilities, label, _ = noisy(2_000, 50, 0.0, 0.1)
    assert not label_issues(recorded(probabilities, label)).is_exact


@pytest.mark.parametrize("classes", [2_500])
def test_many_classes_go_without_a_matrix_and_find_what_cleanlab_finds(classes: int) -> None:
    """Remainders that are equal are rounded as they come: a sample or two may differ."""
    probabilities, label, wrong = noisy(20_000, classes, 0.05, 12.0)
    assert believed_elsewhere(probabilities, label) == sorted(cleanlabs(probabilities, label, "confident_learning"))
    pruned = set(label_issues(recorded(probabilities, label)).indices.tolist())
    truth = set(cleanlabs(probabilities, label))
    assert len(pruned ^ truth) <= 0.02 * len(truth)
    assert len(pruned & set(np.flatnonzero(wrong).tolist())) > 0.8 * len(pruned)


@pytest.fixture(scope="module")
def digits() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Out-of-sample probabilities of digits with a label in twenty flipped: them, labels, truth, where."""
    pixels, truth = load_digits(return_X_y=True)
    rng = np.random.default_rng(0)
    wrong = np.zeros(len(truth), bool)
    wrong[rng.choice(len(truth), len(truth) // 20, replace=False)] = True
    label = np.where(wrong, (truth + rng.integers(1, 10, size=len(truth))) % 10, truth)
    model = LogisticRegression(C=0.1, max_iter=200)
    return cross_val_predict(model, pixels / 16, label, cv=5, method="predict_proba"), label, truth, wrong


def test_labels_of_digits_flipped_in_known_places_are_found_as_well_as_by_cleanlab(
    digits: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray],
) -> None:
    probabilities, label, truth, wrong = digits
    found = label_issues(recorded(probabilities.astype(np.float32), label))
    theirs = cleanlabs(probabilities.astype(np.float32), label)
    hits, their_hits = int(wrong[found.indices].sum()), int(wrong[theirs].sum())
    assert hits >= their_hits
    assert hits / len(found) >= their_hits / len(theirs)
    assert hits / wrong.sum() > 0.6
    assert hits / len(found) > 0.7
    right = wrong[found.indices]
    assert (found.suggested[right] == truth[found.indices[right]]).mean() > 0.9


def test_the_share_of_wrong_labels_is_estimated() -> None:
    probabilities, label, wrong = noisy(30_000, 10, 0.08, 8.0)
    found = label_issues(recorded(probabilities, label))
    assert found.noise == pytest.approx(wrong.mean(), abs=0.01)
    assert found.rate.value == pytest.approx(len(found) / 30_000)
    assert found.rate.low < wrong.mean() < found.rate.high + 0.01


def test_each_class_has_its_share_the_worst_first() -> None:
    probabilities, label, _ = noisy(5_000, 5, 0.1, 6.0)
    found = label_issues(recorded(probabilities, label))
    assert sum(share.issues for share in found.by_class) == len(found)
    assert [share.share.value for share in found.by_class] == sorted(
        (share.issues / share.support for share in found.by_class), reverse=True
    )
    for share in found.by_class:
        assert share.support == int((label == share.label).sum())
        assert share.issues == int((found.labels == share.label).sum())


def test_labels_of_which_all_are_right_raise_no_issue() -> None:
    probabilities = np.eye(4, dtype=np.float32)[np.arange(400) % 4] * 0.9 + 0.025
    found = label_issues(recorded(probabilities, np.arange(400) % 4))
    assert (len(found), found.is_exact, found.noise) == (0, True, 0.0)


def test_one_class_or_no_sample_has_no_issue() -> None:
    assert len(label_issues(recorded(np.ones((5, 1), np.float32), np.zeros(5, np.int64)))) == 0
    found = label_issues(Records())
    assert (len(found), found.is_exact, np.isnan(found.noise)) == (0, True, True)


def test_issues_are_named_by_their_place_in_the_dataset() -> None:
    probabilities, label, _ = noisy(500, 3, 0.1, 5.0)
    plain, moved = recorded(probabilities, label), Records()
    moved.update(torch.from_numpy(probabilities), torch.from_numpy(label), torch.arange(500) * 7, is_logits=False)
    assert label_issues(moved).indices.tolist() == (label_issues(plain).indices * 7).tolist()
