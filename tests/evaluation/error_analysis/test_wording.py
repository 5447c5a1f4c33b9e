"""What a finding of an analysis says: of which pass it is, and of labels how good the model is that accuses them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from evaluation.erring import Says, loader, run
from torch import Tensor

from lightning_debugkit import Finding, read_journal
from lightning_debugkit.report import render

pytestmark = pytest.mark.filterwarnings("ignore")

CLASSES = 6


def answers(n: int, wrong: int, errors: int) -> tuple[Tensor, Tensor]:
    """Scores and labels: ``wrong`` labels that the model surely contradicts, ``errors`` unsure mistakes of its own."""
    generator = torch.Generator().manual_seed(0)
    truth = torch.arange(n) % CLASSES
    logits = 0.1 * torch.randn(n, CLASSES, generator=generator)
    logits += 6 * F.one_hot(truth, CLASSES)
    mistaken = torch.randperm(n, generator=generator)
    bad, unsure = mistaken[:wrong], mistaken[wrong : wrong + errors]
    labels = truth.clone()
    labels[bad] = (truth[bad] + torch.randint(1, CLASSES, bad.shape, generator=generator)) % CLASSES
    other = (truth[unsure] + 1 + torch.randint(0, CLASSES - 1, unsure.shape, generator=generator)) % CLASSES
    logits[unsure] += 6.3 * F.one_hot(other, CLASSES)
    return logits, labels


def told(folder: Path, rule: str = "label-issue") -> Finding:
    (finding,) = (each for each in read_journal(folder / "debugkit").findings if each.rule == rule)
    return finding


@pytest.mark.parametrize("errors", [30, 240])
def test_who_accuses_labels_says_how_good_the_model_is(errors: int, tmp_path: Path) -> None:
    logits, labels = answers(1200, 40, errors)
    held = run(tmp_path, loader(logits, labels, size=256))
    suspects = [row["index"] for row in held["label_issues"]]
    finding, probabilities = told(tmp_path), logits.softmax(1)
    rest = torch.ones(1200, dtype=torch.bool)
    rest[suspects] = False
    right = float((logits.argmax(1) == labels)[rest].float().mean())
    sure = float(probabilities[suspects].amax(1).mean())
    assert finding.message == (
        f"in validation, {len(suspects)} of 1200 labels look wrong: there the model is {sure * 100:.0f} % sure of "
        f"another class on average; of the {int(rest.sum())} labels that look right it gives {right * 100:.3g} %"
    )
    errs_more = 1 - right > held["label_issue_rate"]["high"]
    assert finding.advice.startswith("Train the model further first" if errs_more else "Look through the list")
    assert errs_more == (errors == 240)


def test_labels_that_look_wrong_are_named_where_no_fault_is_found(tmp_path: Path) -> None:
    logits, labels = answers(1200, 40, 30)
    run(tmp_path, loader(logits, labels, size=256), Says())
    verdict = render(tmp_path / "debugkit").verdict
    count = told(tmp_path).evidence["issues"]
    assert verdict.endswith(f"; a note on the data: in validation, {count} of 1200 labels look wrong.")


@pytest.mark.parametrize(("stage", "said"), [("validate", "in validation, "), ("test", "in the test, ")])
def test_a_finding_says_of_which_pass_it_is(stage: str, said: str, tmp_path: Path) -> None:
    logits, labels = answers(1200, 40, 30)
    run(tmp_path, loader(logits, labels, size=256), stage=stage)
    assert told(tmp_path).message.startswith(said)


def test_every_class_that_is_never_predicted_is_named(tmp_path: Path) -> None:
    logits, labels = answers(1200, 0, 0)
    logits[:, [1, 3, 4]] = -9.0
    names = ["ant", "bee", "cat", "dog", "eel", "fox"]
    run(tmp_path, loader(logits, labels, size=256), stage="test", class_names=names)
    message = told(tmp_path, "class-never-predicted").message
    assert message.startswith(
        "in the test, bee is never predicted, though 200 samples belong to it, and so it is with dog"
    )
    assert "with dog and eel: they get" in message
