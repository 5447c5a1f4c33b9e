"""Each kind of question is counted as it is asked, in modules as people write them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
import torch.nn.functional as F
from evaluation.erring import Says, YesOrNo, digits, loader, random_answers, read, run, table
from monitors.breaking import QUIET
from sklearn.metrics import confusion_matrix, multilabel_confusion_matrix
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from lightning_debugkit import ErrorAnalysis
from lightning_debugkit.evaluation.predictions.reader import PredictionsNotFound

pytestmark = pytest.mark.filterwarnings("ignore")


class Digits(pl.LightningModule):
    """The example that everybody starts from."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        return F.cross_entropy(self.net(x), y)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        x, y = batch
        self.log("val_loss", F.cross_entropy(self.net(x), y))

    def configure_optimizers(self) -> Any:
        return torch.optim.Adam(self.parameters(), lr=1e-2)


def test_an_example_module_is_analysed_as_it_stands(tmp_path: Path) -> None:
    images, labels = digits()
    module = Digits()
    trainer = pl.Trainer(default_root_dir=tmp_path, max_epochs=3, callbacks=[ErrorAnalysis()], **QUIET)
    trainer.fit(module, loader(images[:1000], labels[:1000], size=64), loader(images[1000:], labels[1000:], size=64))
    held = read(tmp_path)
    with torch.no_grad():
        predicted = module.net(images[1000:]).argmax(1)
    assert table(held).tolist() == confusion_matrix(labels[1000:], predicted).tolist()
    assert (held["task"], held["unit"], held["epoch"]) == ("multiclass", "samples", 2)
    assert [row["epoch"] for row in held["history"]] == [0, 1, 2]
    assert held["history"][-1]["accuracy"] == pytest.approx(held["accuracy"]["value"])


@pytest.mark.parametrize("form", ["logits", "column", "probabilities"])
def test_binary_questions(form: str, tmp_path: Path) -> None:
    logits = torch.randn(200, generator=torch.Generator().manual_seed(0))
    target = (logits + torch.randn(200, generator=torch.Generator().manual_seed(1)) > 0).long()

    class Binary(YesOrNo):
        def loss(self, batch: Any) -> Tensor:
            if form == "probabilities":
                return F.binary_cross_entropy(self(batch[0]).sigmoid(), batch[1].float())
            return F.binary_cross_entropy_with_logits(self(batch[0]), batch[1].float())

    x, y = (logits[:, None], target[:, None]) if form == "column" else (logits, target)
    held = run(tmp_path, loader(x, y), Binary())
    assert (held["task"], held["classes"]) == ("binary", ["0", "1"])
    assert table(held).tolist() == confusion_matrix(target, logits > 0).tolist()
    worst = F.binary_cross_entropy_with_logits(logits, target.float(), reduction="none").max()
    assert held["top_losses"][0]["loss"] == pytest.approx(float(worst), rel=1e-4)
    assert any(note.startswith("The losses of the samples are verified") for note in held["notes"])


def test_scores_that_leave_the_unit_interval_are_logits(tmp_path: Path) -> None:
    """Of the first batch alone nobody could tell."""

    class ReturnsScores(Says):
        def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Any:
            return {"scores": self(batch[0])}

    first, rest = torch.tensor([0.2, 0.7, 0.9, 0.1]), torch.tensor([-1.0, 3.0, -2.0, 0.4])
    held = run(
        tmp_path, loader(torch.cat([first, rest]), torch.tensor([0, 1, 1, 0, 0, 1, 0, 1]), size=4), ReturnsScores()
    )
    assert table(held).tolist() == [[4, 0], [0, 4]]
    assert "Scores lay between 0 and 1 at first and do not any more: only now they are read as logits." in held["notes"]


def test_labels_of_which_a_sample_has_many(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(4)
    target = (torch.rand(300, 5, generator=generator) < 0.3).long()
    logits = 2.0 * target - 1 + torch.randn(300, 5, generator=generator)
    held = run(tmp_path, loader(logits, target), YesOrNo(), class_names=list("abcde"))
    said = (logits > 0).long()
    assert (held["task"], held["unit"], held["n"]) == ("multilabel", "labels", 1500)
    assert held["accuracy"]["value"] == pytest.approx(float((said == target).float().mean()))
    assert held["accuracy"]["low"] < held["accuracy"]["value"] < held["accuracy"]["high"]
    matrix = table(held)
    for label, (_, extra, missed, both) in enumerate(
        part.flatten().tolist() for part in multilabel_confusion_matrix(target, said)
    ):
        assert matrix[label, label] == both
        assert matrix[label].sum() - both == missed, "each label that is missed stands in its row once"
        assert matrix[:, label].sum() - both == extra
    assert held["classes"] == [*"abcde", "(no label)"]
    assert [row["class"] for row in held["per_class"]] == [0, 1, 2, 3, 4]


def test_missed_and_surplus_labels_are_paired_by_their_scores(tmp_path: Path) -> None:
    scores = torch.tensor([[-0.1, -3.0, 2.0, 1.0, -5.0], [4.0, -1, -1, -1, -1], [4.0, 2.0, -1, -1, -1]])
    target = torch.tensor([[1, 1, 0, 0, 0], [1, 0, 0, 0, 1], [1, 0, 0, 0, 0]])
    held = run(tmp_path, loader(scores, target), YesOrNo())
    assert {tuple(row) for row in held["confusion"]} == {
        (0, 2, 1),  # the nearest miss with the surest surplus
        (1, 3, 1),
        (0, 0, 2),
        (4, 5, 1),  # a miss with nothing in its place
        (5, 1, 1),  # a surplus with nothing missed
    }


def masks(n: int = 12, classes: int = 4, side: int = 6) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(7)
    target = torch.randint(0, classes, (n, side, side), generator=generator)
    logits = torch.randn(n, classes, side, side, generator=generator)
    return logits + 1.5 * F.one_hot(target, classes).permute(0, 3, 1, 2), target


@pytest.mark.parametrize("ignore", [255, -100])
def test_pixels_without_those_to_ignore(ignore: int, tmp_path: Path) -> None:
    class Segments(Says):
        def loss(self, batch: Any) -> Tensor:
            return F.cross_entropy(self(batch[0]), batch[1], ignore_index=ignore)

    logits, target = masks()
    target[:, 0] = ignore
    held = run(tmp_path, loader(logits, target, size=5), Segments())
    counts = target != ignore
    assert (held["task"], held["unit"], held["n"]) == ("segmentation", "pixels", int(counts.sum()))
    assert table(held).tolist() == confusion_matrix(target[counts], logits.argmax(1)[counts]).tolist()
    each = F.cross_entropy(logits, target, ignore_index=ignore, reduction="none").sum((1, 2)) / counts.sum((1, 2))
    assert [row["index"] for row in held["top_losses"]] == each.argsort(descending=True).tolist()
    assert any(note.startswith("The losses of the samples are verified") for note in held["notes"])


def test_masks_of_one_kind(tmp_path: Path) -> None:
    logits = torch.randn(8, 1, 5, 5, generator=torch.Generator().manual_seed(0))
    target = (logits + torch.randn(8, 1, 5, 5, generator=torch.Generator().manual_seed(1)) > 0).float()
    held = run(tmp_path, loader(logits, target, size=4), YesOrNo())
    assert held["task"] == "segmentation"
    assert table(held).tolist() == confusion_matrix(target.flatten(), logits.flatten() > 0).tolist()


def test_tokens_in_one_row_stand_by_their_samples_again(tmp_path: Path) -> None:
    class Language(Says):
        def loss(self, batch: Any) -> Tensor:
            return F.cross_entropy(self(batch[0]).view(-1, 6), batch[1].view(-1))

        def forward(self, x: Tensor) -> Tensor:
            return x.clone()

    generator = torch.Generator().manual_seed(3)
    target = torch.randint(0, 6, (20, 9), generator=generator)
    logits = torch.randn(20, 9, 6, generator=generator) + F.one_hot(target, 6)
    target[3:, 7:] = -100
    held = run(tmp_path, loader(logits, target, size=8), Language())
    counts = target != -100
    assert (held["unit"], held["n"], held["samples_counted"]) == ("tokens", int(counts.sum()), 20)
    assert table(held).tolist() == confusion_matrix(target[counts], logits.argmax(2)[counts]).tolist()


class Boxes(Dataset[Any]):
    """Images with their boxes, as torchvision's detectors take them."""

    def __init__(self) -> None:
        box = torch.tensor([[0.0, 0.0, 10.0, 10.0], [20.0, 20.0, 30.0, 30.0]])
        self.images = torch.rand(4, 3, 32, 32)
        self.targets = [
            {"boxes": box, "labels": torch.tensor([1, 2])},
            {"boxes": box[:1], "labels": torch.tensor([2])},
            {"boxes": box[:0], "labels": torch.tensor([], dtype=torch.long)},
            {"boxes": box, "labels": torch.tensor([1, 1])},
        ]
        self.found = [
            {"boxes": box, "labels": torch.tensor([1, 3]), "scores": torch.tensor([0.9, 0.8])},
            {"boxes": box[1:], "labels": torch.tensor([2]), "scores": torch.tensor([0.7])},
            {"boxes": box[:1], "labels": torch.tensor([3]), "scores": torch.tensor([0.1])},
            {"boxes": box, "labels": torch.tensor([1, 1]), "scores": torch.tensor([0.95, 0.9])},
        ]

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> Any:
        return self.images[index], {**self.targets[index], "image_id": torch.tensor(index)}


class Detector(nn.Module):
    def __init__(self, found: list[Any]) -> None:
        super().__init__()
        self.found = found
        self.weight = nn.Parameter(torch.zeros(()))
        self.at = 0

    def forward(self, images: Any, targets: Any = None) -> Any:
        self.at += len(images)
        return self.found[self.at - len(images) : self.at]


class Detects(pl.LightningModule):
    """Of the tutorial: the net is called by name, a metric takes what it returns."""

    def __init__(self, found: list[Any]) -> None:
        super().__init__()
        self.model = Detector(found)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        images, _ = batch
        self.model(images)


def test_boxes_that_are_missed_and_made_up_stand_against_background(tmp_path: Path) -> None:
    data = Boxes()
    source = DataLoader(data, batch_size=2, collate_fn=lambda batch: tuple(zip(*batch, strict=True)))
    held = run(tmp_path, source, Detects(data.found))
    assert (held["task"], held["unit"]) == ("detection", "boxes")
    assert held["classes"] == ["(background)", "1", "2", "3"]
    assert {tuple(row) for row in held["confusion"]} == {
        (1, 1, 3),
        (2, 3, 1),
        (2, 0, 1),
        (0, 2, 1),
    }
    assert held["n"] == 6
    assert held["accuracy"]["value"] == pytest.approx(3 / 6)
    assert [row["index"] for row in held["top_losses"]][:2] == [1, 0]
    assert "0" in held["pictures"]


@pytest.mark.parametrize("form", ["one hot", "shares"])
def test_targets_as_shares_of_classes(form: str, tmp_path: Path) -> None:
    logits, target = random_answers(50, 4)
    shares = F.one_hot(target, 4).float()
    shares = shares if form == "one hot" else 0.9 * shares + 0.025
    held = run(tmp_path, loader(logits, shares))
    assert table(held).tolist() == confusion_matrix(target, logits.argmax(1)).tolist()
    own = F.cross_entropy(logits, shares, reduction="none")
    assert held["top_losses"][0]["loss"] == pytest.approx(float(own.max()), rel=1e-4)
    assert any(note.startswith("The losses of the samples are verified") for note in held["notes"])


def test_a_task_can_be_named_where_the_shapes_allow_two(tmp_path: Path) -> None:
    """Labels of which each sample of the first batch happens to have one."""

    class ReturnsScores(Says):
        def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Any:
            return {"logits": self(batch[0]), "target": batch[1]}

    logits, target = random_answers(30, 3)
    one_hot = F.one_hot(target, 3)
    assert run(tmp_path / "auto", loader(logits, one_hot), ReturnsScores())["task"] == "multiclass"
    assert run(tmp_path / "said", loader(logits, one_hot), ReturnsScores(), task="multilabel")["task"] == "multilabel"
    with pytest.raises(PredictionsNotFound, match=r"needs predictions of task 'segmentation'.*'multiclass'"):
        run(tmp_path / "wrong", loader(logits, target), ReturnsScores(), task="segmentation")


def test_a_named_task_settles_what_a_binary_loss_leaves_open(tmp_path: Path) -> None:
    """Two scores of a sample, each asked for a yes or no: a class of two, or two labels."""

    class OneByOne(Says):
        def loss(self, batch: Any) -> Tensor:
            scores = batch[0] + 0 * self.offset
            return F.binary_cross_entropy_with_logits(scores, F.one_hot(batch[1], 2).float())

    logits, target = random_answers(60, 2)
    held = run(tmp_path / "said", loader(logits, target), OneByOne(), task="multiclass")
    assert held["task"] == "multiclass"
    assert table(held).tolist() == confusion_matrix(target, logits.argmax(1)).tolist()
    assert run(tmp_path / "auto", loader(logits, target), OneByOne())["task"] == "multilabel"


SOFTENED = "Targets are shares of a yes: above 0.5 counts as yes, and the loss is that of the yes or no."


@pytest.mark.parametrize("form", ["flat", "column", "labels"])
def test_smoothed_answers_of_yes_or_no_are_yes_or_no(form: str, tmp_path: Path) -> None:
    class Smooth(Says):
        def loss(self, batch: Any) -> Tensor:
            return F.binary_cross_entropy_with_logits(self(batch[0]), 0.9 * batch[1].float() + 0.05)

    shape = {"flat": (60,), "column": (60, 1), "labels": (60, 4)}[form]
    logits = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    target = (logits + torch.randn(shape, generator=torch.Generator().manual_seed(1)) > 0).long()
    held = run(tmp_path, loader(logits, target), Smooth())
    assert held["task"] == ("multilabel" if form == "labels" else "binary")
    assert held["accuracy"]["value"] == pytest.approx(((logits > 0) == (target == 1)).float().mean().item())
    if form != "labels":
        assert table(held).tolist() == confusion_matrix(target.flatten(), logits.flatten() > 0).tolist()
    assert SOFTENED in held["notes"]


def test_a_later_batch_may_be_the_first_with_shares(tmp_path: Path) -> None:
    class Blends(Says):
        def loss(self, batch: Any) -> Tensor:
            return F.binary_cross_entropy_with_logits(self(batch[0]), batch[1])

    logits, target = torch.tensor([-2.0, 1.0, 3.0, -1.0]), torch.tensor([0.0, 1.0, 0.9, 0.8])
    held = run(tmp_path, loader(logits, target, size=2), Blends())
    assert table(held).tolist() == [[1, 0], [1, 2]]


class Rebuilds(Says):
    """An autoencoder whose batches hold labels that it makes no use of."""

    compare: Any = staticmethod(F.mse_loss)

    def loss(self, batch: Any) -> Tensor:
        return self.compare(self(batch[0]).sigmoid(), batch[0])

    def forward(self, x: Tensor) -> Tensor:
        return x.clone() + 0 * self.offset


class RebuildsByYesOrNo(Rebuilds):
    compare = staticmethod(F.binary_cross_entropy)


@pytest.mark.parametrize("kind", [Rebuilds, RebuildsByYesOrNo])
def test_an_autoencoder_is_no_classifier(kind: Any, tmp_path: Path) -> None:
    images, labels = digits()
    with pytest.raises(PredictionsNotFound, match="got a regression, whose error BiasVarianceReport measures: "):
        run(tmp_path, loader(images[:60], labels[:60]), kind())


def test_squares_of_one_hot_targets_are_of_a_classifier(tmp_path: Path) -> None:
    class Squares(Says):
        def loss(self, batch: Any) -> Tensor:
            return F.mse_loss(self(batch[0]), F.one_hot(batch[1], 3).float())

    logits, target = random_answers(60, 3)
    held = run(tmp_path, loader(logits, target), Squares())
    assert table(held).tolist() == confusion_matrix(target, logits.argmax(1)).tolist()


def test_lengths_that_differ_are_told(tmp_path: Path) -> None:
    with pytest.raises(PredictionsNotFound) as caught:
        run(tmp_path, loader(*random_answers(32, 4), size=32), adapter=lambda outputs, batch: (batch[0][:5], batch[1]))
    assert str(caught.value).startswith(
        "ErrorAnalysis needs predictions of classes with their targets, got predictions of float32[5, 4] and "
        "targets of int64[32]: their lengths differ (from the adapter"
    )


def test_scores_that_are_not_finite_are_left_out_and_told(tmp_path: Path) -> None:
    logits, target = random_answers(60, 3)
    logits[[3, 40], 1] = torch.nan
    logits[7] = torch.inf
    logits[9, (target[9] + 1) % 3] = -torch.inf  # a class that is masked is an answer
    held = run(tmp_path, loader(logits, target))
    fine = torch.tensor([at not in (3, 40, 7) for at in range(60)])
    assert (held["n"], held["broken"]) == (57, 3)
    assert table(held).tolist() == confusion_matrix(target[fine], logits.argmax(1)[fine]).tolist()
    assert "3 samples have scores that are not finite, and no part in the counts." in held["notes"]


def test_targets_that_are_no_class_are_left_out_and_told(tmp_path: Path) -> None:
    class ReturnsScores(Says):
        def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Any:
            return {"logits": self(batch[0]), "target": batch[1]}

    logits, target = random_answers(60, 3)
    target[:4] = torch.tensor([3, 7, -1, -100])
    held = run(tmp_path, loader(logits, target), ReturnsScores())
    assert held["n"] == 56
    assert "3 targets are no class from 0 to 2: they are left out of all counts." in held["notes"]


def test_predictions_that_are_classes(tmp_path: Path) -> None:
    class ReturnsClasses(Says):
        def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Any:
            return {"preds": batch[0].argmax(1), "target": batch[1]}

    logits, target = random_answers(60, 3)
    held = run(tmp_path, loader(logits, target), ReturnsClasses())
    assert table(held).tolist() == confusion_matrix(target, logits.argmax(1)).tolist()
    assert (held["top_losses"], held["label_issues"], held["calibration"]) == ([], [], {})


def test_one_class_alone(tmp_path: Path) -> None:
    logits, _ = random_answers(40, 3)
    held = run(tmp_path, loader(logits, torch.full((40,), 2)))
    assert "All targets are of one class, 2: the numbers tell nothing of the others." in held["notes"]
    assert held["n"] == 40


def test_no_mistake_at_all(tmp_path: Path) -> None:
    target = torch.arange(40) % 4
    held = run(tmp_path, loader(10.0 * F.one_hot(target, 4), target))
    assert held["accuracy"]["value"] == 1
    assert (held["most_confused"], held["merge_candidates"], held["label_issues"], held["weak_slices"]) == ([],) * 4
    assert not (tmp_path / "debugkit/misclassified.csv").exists()


@pytest.mark.usefixtures("with_report")
@pytest.mark.parametrize("kind", ["broken", "one class", "no mistake", "classes", "many"])
def test_the_report_holds_whatever_there_is(kind: str, tmp_path: Path) -> None:
    logits, target = random_answers(60, 3)
    if kind == "broken":
        logits[:] = torch.nan
    elif kind == "one class":
        target[:] = 1
    elif kind == "no mistake":
        logits = 10.0 * F.one_hot(target, 3)
    elif kind == "many":
        logits, target = random_answers(900, 400)

    class ReturnsClasses(Says):
        def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Any:
            return {"preds": batch[0].argmax(1), "target": batch[1]}

    run(tmp_path, loader(logits, target), ReturnsClasses() if kind == "classes" else None)
    assert "What the model confuses" in (tmp_path / "debugkit/report.html").read_text()


def test_batches_of_another_question_are_left_out_and_told(tmp_path: Path) -> None:
    class TwoQuestions(Says):
        def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Any:
            logits = self(batch[0])
            return {"logits": logits[:, :2] if batch_idx == 1 else logits, "target": batch[1]}

    logits, target = random_answers(48, 3)
    held = run(tmp_path, loader(logits, target), TwoQuestions())
    kept = torch.tensor([not 16 <= at < 32 for at in range(48)])
    assert table(held).tolist() == confusion_matrix(target[kept], logits.argmax(1)[kept]).tolist()
    assert "Batches with answers of another kind than the first are left out." in held["notes"]


class Tokens(Says):
    """Says the classes of tokens, the classes in the last dimension."""

    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Tensor:
        return F.cross_entropy(self(batch[0]).transpose(1, 2), batch[1])


class Flat(Says):
    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Tensor:
        return F.cross_entropy(self(batch[0]).flatten(0, 1), batch[1].flatten())


@pytest.mark.parametrize("kind", [Tokens, Flat])
def test_as_many_tokens_as_classes_are_told_apart_by_what_the_loss_is_given(kind: Any, tmp_path: Path) -> None:
    target = torch.randint(5, (40, 5), generator=torch.Generator().manual_seed(0))
    held = run(tmp_path, loader(F.one_hot(target, 5).float() * 9, target), kind())
    assert (held["n"], held["accuracy"]["value"]) == (200, 1.0)


def test_tokens_that_are_taken_out_before_the_loss_leave_the_others(tmp_path: Path) -> None:
    class Masked(Says):
        def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Tensor:
            kept = batch[1] != -100
            return F.cross_entropy(self.net(batch[0])[kept], batch[1][kept])

        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Identity()

    generator = torch.Generator().manual_seed(0)
    target = torch.randint(4, (41, 7), generator=generator)
    target[torch.rand(41, 7, generator=generator) < 0.3] = -100
    logits = torch.randn(41, 7, 4, generator=generator)
    held = run(tmp_path, loader(logits, target, size=8), Masked())
    kept = target != -100
    assert held["n"] == int(kept.sum())
    assert held["accuracy"]["value"] == pytest.approx(float((logits.argmax(-1) == target)[kept].float().mean()))


@pytest.mark.skipif(not hasattr(torch.compiler, "set_stance"), reason="torch 2.6 runs compiled code eagerly")
def test_a_compiled_module_is_read_too(tmp_path: Path) -> None:
    class Calls(Says):
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Linear(3, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.net(x)

        def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Tensor:
            return F.cross_entropy(self(batch[0]), batch[1])

    torch.manual_seed(0)
    module = Calls()
    logits, target = random_answers(60, 3)
    held = run(tmp_path, loader(logits, target), torch.compile(module, backend="eager"))
    right = (module.net(logits).argmax(1) == target).float().mean()
    assert (held["n"], held["accuracy"]["value"]) == (60, pytest.approx(float(right)))
