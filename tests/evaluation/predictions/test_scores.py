"""Scores and targets of each form are counted as what they are."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from lightning_debugkit.evaluation.predictions.wrong_samples import NoClasses, cut_of, scored

pytestmark = pytest.mark.filterwarnings("ignore")


FORMS = [
    ("classes", torch.tensor([1, 0, 2]), torch.tensor([1, 1, 2]), [0, 1, 0], 0),
    ("logits", torch.tensor([[0.0, 2], [3, 1], [0, 1]]), torch.tensor([1, 1, 0]), [0, 1, 1], 2),
    ("binary logits", torch.tensor([-3.0, 0.4, 2]), torch.tensor([0, 0, 1]), [0, 1, 0], 2),
    ("binary column", torch.tensor([[-3.0], [0.4], [2]]), torch.tensor([0, 0, 1]), [0, 1, 0], 2),
    ("binary column both", torch.tensor([[-3.0], [0.4], [2]]), torch.tensor([[0.0], [0], [1]]), [0, 1, 0], 2),
    ("one hot", torch.tensor([[0.0, 2], [3, 1]]), torch.tensor([[0.0, 1], [0, 1]]), [0, 1], 2),
    ("soft labels", torch.tensor([[0.0, 2], [3, 1]]), torch.tensor([[0.2, 0.8], [0.4, 0.6]]), [0, 1], 2),
]


@pytest.mark.parametrize(("form", "predictions", "target", "wrong", "classes"), FORMS, ids=[f[0] for f in FORMS])
def test_scores_of_each_form_are_understood(form: str, predictions: Any, target: Any, wrong: Any, classes: int) -> None:
    found = scored(predictions, target, cut=cut_of(predictions, target, ""))
    assert (found.wrong.tolist(), found.size.tolist(), found.classes) == (wrong, [1] * len(wrong), classes)


def test_pixels_are_counted_without_those_that_are_ignored() -> None:
    target = torch.tensor([[[0, 1], [-100, 1]], [[255, 0], [0, 0]]])
    scores = F.one_hot(torch.zeros(2, 2, 2, dtype=torch.long), 3).permute(0, 3, 1, 2).float()
    found = scored(scores, target, ignore_index=255)
    assert (found.wrong.tolist(), found.size.tolist(), found.target) == ([2, 0], [3, 3], None)


def test_tokens_have_their_classes_last() -> None:
    target = torch.tensor([[1, 2, -100], [0, 0, 1]])
    scores = F.one_hot(torch.tensor([[1, 1, 1], [0, 0, 1]]), 5).float()
    found = scored(scores, target)
    assert (found.wrong.tolist(), found.size.tolist()) == ([1, 0], [2, 3])


def test_several_labels_of_a_sample_are_counted_one_by_one() -> None:
    found = scored(torch.tensor([[3.0, -1, 2], [-1, -1, -1]]), torch.tensor([[1.0, 0, 0], [0, 1, 1]]), cut=0.0)
    assert (found.wrong.tolist(), found.size.tolist()) == ([1, 2], [3, 3])


def test_a_sample_without_a_finite_score_is_wrong() -> None:
    found = scored(torch.tensor([[float("nan"), 0.0], [0.0, 1.0]]), torch.tensor([0, 1]))
    assert (found.wrong.tolist(), found.broken.tolist()) == ([1, 0], [True, False])


def test_a_masked_class_is_no_broken_score() -> None:
    found = scored(torch.tensor([[-torch.inf, 0.0], [-torch.inf, 1.0]]), torch.tensor([0, 1]))
    assert (found.wrong.tolist(), found.broken.tolist()) == ([1, 0], [False, False])


@pytest.mark.parametrize(
    ("predictions", "target"),
    [
        (torch.randn(4), torch.randn(4)),
        (torch.randn(4), torch.tensor([3, 30, 41, 12])),
        (torch.randn(4, 7), torch.randn(4, 7)),
        (torch.randn(4, 7), torch.tensor([0, 1])),
        (["a"], ["b"]),
    ],
)
def test_values_are_no_classes(predictions: Any, target: Any) -> None:
    with pytest.raises(NoClasses):
        scored(predictions, target)
