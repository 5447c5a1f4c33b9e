"""What is beyond chance is told once; of a model in good health nothing is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
import torch.nn.functional as F
from evaluation.erring import Says, digits, loader, random_answers, read, run
from monitors.breaking import QUIET
from torch import Tensor, nn

from lightning_debugkit import ErrorAnalysis, Finding, Severity, read_journal

pytestmark = pytest.mark.filterwarnings("ignore")


def found(folder: Path) -> dict[str, Finding]:
    """The findings by rule; each is told once."""
    all_ = read_journal(folder / "debugkit").findings
    assert len({finding.rule for finding in all_}) == len(all_)
    return {finding.rule: finding for finding in all_}


def calibrated(n: int, classes: int, seed: int = 0, sharp: float = 3.0) -> tuple[Tensor, Tensor]:
    """Targets drawn from the probabilities themselves: no model could be more honest."""
    generator = torch.Generator().manual_seed(seed)
    logits = sharp * torch.randn(n, classes, generator=generator)
    return logits, torch.multinomial(logits.softmax(1), 1, generator=generator)[:, 0]


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("classes", [2, 10])
def test_an_honest_model_is_left_in_peace(seed: int, classes: int, tmp_path: Path) -> None:
    logits, target = calibrated(1500, classes, seed)
    noise = torch.randn(1500, generator=torch.Generator().manual_seed(seed))
    run(tmp_path, loader(logits, target, noise, size=256))
    assert found(tmp_path) == {}


def test_a_pair_that_is_confused_is_named(tmp_path: Path) -> None:
    logits, target = calibrated(1500, 6, sharp=4)
    shirts = (target == 2).nonzero()[:100, 0]
    logits[shirts] = 4.0 * F.one_hot(torch.tensor(4), 6)
    run(tmp_path, loader(logits, target), class_names=["coat", "bag", "shirt", "boot", "T-shirt", "dress"])
    held = found(tmp_path)["confused-classes"]
    assert held.severity == Severity.INFO
    assert held.message.startswith("in validation, shirt is taken for T-shirt in ")
    assert held.evidence["classes"] == [2, 4]
    assert held.evidence["stage"] == "validate"


def test_two_classes_that_are_one_are_named(tmp_path: Path) -> None:
    logits, target = calibrated(2000, 5, sharp=5)
    either = (target == 1) | (target == 3)
    coin = torch.rand(2000, generator=torch.Generator().manual_seed(9)) < 0.5
    logits[either] = torch.tensor([0.0, 6, 0, 6.1, 0])
    target[either] = torch.where(coin, 1, 3)[either]
    held = run(tmp_path, loader(logits, target))
    # All of them are called 3: the confusion has one direction only.
    assert "merge-candidate" not in found(tmp_path)
    logits[either & (torch.arange(2000) % 2 == 0)] = torch.tensor([0.0, 6.1, 0, 6, 0])
    held = run(tmp_path / "both", loader(logits, target))
    told = found(tmp_path / "both")["merge-candidate"]
    assert told.evidence["classes"] == [1, 3]
    first = held["merge_candidates"][0]
    assert (first["first"], first["second"]) == (1, 3)
    assert first["kappa_merged"] > first["kappa"]
    assert first["cannot_tell"] == pytest.approx(1, abs=0.02)


class Net(pl.LightningModule):
    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Dropout(0.2), nn.Linear(64, classes))

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return F.cross_entropy(self.net(batch[0]), batch[1])

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_loss", F.cross_entropy(self.net(batch[0]), batch[1]))

    test_step = validation_step

    def configure_optimizers(self) -> Any:
        return torch.optim.Adam(self.parameters(), lr=5e-3)


def fit(folder: Path, train: Any, val: Any, module: Net | None = None, epochs: int = 6, **arguments: Any) -> Any:
    pl.seed_everything(1, verbose=False)
    options = {**QUIET, "max_epochs": epochs}
    module = Net() if module is None else module
    trainer = pl.Trainer(default_root_dir=folder, callbacks=[ErrorAnalysis(**arguments)], **options)
    trainer.fit(module, loader(*train, size=32, shuffle=True), loader(*val, size=64))
    return read(folder)


def split(labels: Tensor | None = None) -> tuple[Any, Any]:
    images, own = digits()
    labels = own if labels is None else labels
    order = torch.randperm(len(own), generator=torch.Generator().manual_seed(0))
    train, val = order[:1000], order[1000:]
    return (images[train], labels[train]), (images[val], labels[val])


@pytest.mark.parametrize("epochs", [1, 2, 12])
def test_a_healthy_run_is_left_in_peace(epochs: int, tmp_path: Path) -> None:
    fit(tmp_path, *split(), epochs=epochs)
    assert [f for f in found(tmp_path).values() if f.severity >= Severity.WARNING] == []
    assert "label-issue" not in found(tmp_path)


def test_labels_that_were_flipped_are_found(tmp_path: Path) -> None:
    """5 % of the validation labels, in known places."""
    train, (images, labels) = split()
    generator = torch.Generator().manual_seed(2)
    wrong = torch.randperm(len(labels), generator=generator)[: len(labels) // 20]
    noisy = labels.clone()
    noisy[wrong] = (labels[wrong] + torch.randint(1, 10, wrong.shape, generator=generator)) % 10
    held = fit(tmp_path, train, (images, noisy))
    issues = {row["index"] for row in held["label_issues"]}
    known = set(wrong.tolist())
    assert len(issues & known) / len(known) > 0.75
    first = [row["index"] for row in held["label_issues"][: len(known) // 2]]
    assert len(known.intersection(first)) / len(first) > 0.9, "the surest come first"
    told = found(tmp_path)["label-issue"]
    assert set(told.evidence["dataset_indices"]) <= known
    for row in held["label_issues"][:20]:
        assert (row["label"], row["suggested"]) == (int(noisy[row["index"]]), int(labels[row["index"]]))
    assert held["label_issue_rate"]["low"] < 0.05 < held["label_issue_rate"]["high"]


@pytest.mark.parametrize("hard", [True, False])
def test_a_slice_that_was_made_hard_is_found_and_shuffled_metadata_tell_nothing(hard: bool, tmp_path: Path) -> None:
    """Samples of one camera are turned; for the second fit the cameras are dealt out anew."""
    train, (images, labels) = split()
    camera = torch.arange(len(labels)) % 4
    turned = images.clone()
    turned[camera == 3] = images[camera == 3].reshape(-1, 8, 8).rot90(1, (1, 2)).reshape(-1, 64)
    told = camera if hard else camera[torch.randperm(len(camera), generator=torch.Generator().manual_seed(3))]
    held = fit(tmp_path, train, (turned, labels, told))
    parts = [part["conditions"] for part in held["weak_slices"] if set(part["conditions"]) != {"class"}]
    if hard:
        assert held["weak_slices"][0]["conditions"]["batch[2]"] == "3"
        assert found(tmp_path)["weak-slice"].evidence["n"] == held["weak_slices"][0]["n"]
    else:
        assert not any("batch[2]" in part for part in parts)
        assert "weak-slice" not in found(tmp_path)
    assert held["tested_slices"] >= 14


def test_a_model_that_is_too_sure_is_told_so(tmp_path: Path) -> None:
    logits, target = calibrated(800, 5, sharp=1.5)
    run(tmp_path, loader(4 * logits, target))
    told = found(tmp_path)["overconfident"]
    assert told.evidence["low"] > 2 * told.evidence["claimed"]
    assert "label-issue" not in found(tmp_path), "that it is wrong everywhere speaks against no label"


def never(folder: Path) -> Severity | None:
    return found(folder)["class-never-predicted"].severity if "class-never-predicted" in found(folder) else None


def test_a_class_that_training_never_saw_is_told(tmp_path: Path) -> None:
    """The labels of the training data never say 9."""
    (images, labels), val = split()
    known = labels != 9
    fit(tmp_path, (images[known], labels[known]), val, epochs=12)
    told = found(tmp_path)["class-never-predicted"]
    assert (told.severity, told.evidence["classes"]) == (Severity.WARNING, [9])
    assert told.message.startswith("in validation, 9 is never predicted, though ")


def test_in_its_first_epochs_a_model_may_lack_a_class(tmp_path: Path) -> None:
    (images, labels), val = split()
    known = labels != 9
    fit(tmp_path, (images[known], labels[known]), val, epochs=2)
    assert never(tmp_path) is None


@pytest.mark.parametrize(
    ("paired", "says"),
    [
        (True, "Lower the threshold for it or weight its loss if it must be found: it is known, but outweighed."),
        (False, "Look whether inputs and labels belong together: the model hardly tells this class from others."),
    ],
)
def test_a_rare_class_that_is_outweighed_is_no_warning_and_known_only_if_it_is(
    tmp_path: Path, paired: bool, says: str
) -> None:
    """Clicks: one in forty, and never likelier than not. The probabilities are as honest as can be, or of others."""
    generator = torch.Generator().manual_seed(0)
    logits = -4 + torch.randn(3000, generator=generator).clamp(max=3)
    target = (torch.rand(3000, generator=generator) < logits.sigmoid()).long()
    if not paired:
        target = target[torch.randperm(3000, generator=generator)]

    class Clicks(Says):
        def loss(self, batch: Any) -> Tensor:
            return F.binary_cross_entropy_with_logits(self(batch[0]), batch[1].float())

    run(tmp_path, loader(logits, target), Clicks(), stage="test")
    assert never(tmp_path) == Severity.INFO
    assert found(tmp_path)["class-never-predicted"].advice.startswith(says)


def test_a_finding_of_the_test_is_told_beside_that_of_the_validation(tmp_path: Path) -> None:
    logits, target = calibrated(800, 5, sharp=1.5)
    source = loader(4 * logits, target)
    trainer = pl.Trainer(default_root_dir=tmp_path, max_epochs=1, callbacks=[ErrorAnalysis()], **QUIET)
    module = Says()
    trainer.fit(module, source, source)
    trainer.test(module, source, verbose=False)
    told = [f for f in read_journal(tmp_path / "debugkit").findings if f.rule == "overconfident"]
    assert [f.evidence["stage"] for f in told] == ["validate", "test"]


def test_random_answers_have_no_favourite_pair(tmp_path: Path) -> None:
    """Of twenty sets of random mistakes none may be said to have one: it is told at one in a hundred."""
    told = []
    for seed in range(20):
        run(tmp_path / str(seed), loader(*random_answers(500, 8, seed=seed), size=256))
        told += [seed] if "confused-classes" in found(tmp_path / str(seed)) else []
    assert told == []


def test_a_model_that_is_mostly_wrong_accuses_no_label(tmp_path: Path) -> None:
    logits, target = random_answers(600, 4, skill=0.1)
    logits *= 8  # and sure of itself
    held = run(tmp_path, loader(logits, target))
    assert held["accuracy"]["low"] < 0.5
    assert held["label_issues"], "the list is there to be looked at"
    assert "label-issue" not in found(tmp_path)


def test_labels_of_a_class_that_is_masked_out_are_not_accused(tmp_path: Path) -> None:
    logits, target = calibrated(800, 4, sharp=4)
    logits[:, 3] = -torch.inf
    held = run(tmp_path, loader(logits, target))
    accused = [issue["label"] for issue in held["label_issues"]]
    assert accused.count(3) > len(accused) / 2
    assert "label-issue" not in found(tmp_path)


@pytest.mark.parametrize("broken", [1, 200])
def test_scores_that_are_nan_are_told(broken: int, tmp_path: Path) -> None:
    logits, target = calibrated(200, 3)
    logits[:broken] = torch.nan
    held = run(tmp_path, loader(logits, target))
    assert (held["n"], held["broken"]) == (200 - broken, broken)
    told = found(tmp_path)["nonfinite-scores"]
    assert told.severity == Severity.WARNING
    assert (
        told.message
        == f"in validation, the scores of {broken} of 200 samples are NaN or infinite: they are not counted"
    )


def test_a_masked_class_is_not_taken_for_nan(tmp_path: Path) -> None:
    logits, target = calibrated(200, 4)
    logits[target != 3, 3] = -torch.inf
    run(tmp_path, loader(logits, target))
    assert "nonfinite-scores" not in found(tmp_path)
