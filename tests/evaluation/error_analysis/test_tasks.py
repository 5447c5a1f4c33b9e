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
from sklearn.metrics import confusion_matrix
from torch import Tensor, nn

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
