"""Predictions and targets are read as the step's own loss had them, or by the names that are given."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
import torch.nn.functional as F
from evaluation.erring import Says, loader, random_answers, read, run, table
from monitors.breaking import QUIET
from sklearn.metrics import confusion_matrix
from torch import Tensor
from torch.utils.data import Dataset

from lightning_debugkit import ErrorAnalysis
from lightning_debugkit.evaluation.predictions.reader import PredictionsNotFound

pytestmark = pytest.mark.filterwarnings("ignore")


class Whole(Says):
    """Targets are classes that the data hold as floats, as a table of numbers does."""

    def loss(self, batch: Any) -> Tensor:
        return F.cross_entropy(self(batch[0]), batch[1].long())


class WholeReturned(Whole):
    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Any:
        return {"loss": self.loss(batch), "logits": self(batch[0])}


@pytest.mark.parametrize("kind", [Whole, WholeReturned])
@pytest.mark.parametrize("form", [torch.float32, torch.float64, torch.int32])
def test_classes_that_are_written_as_floats_are_classes_if_the_loss_is_given_them_so(
    form: Any, kind: Any, tmp_path: Path
) -> None:
    logits, target = random_answers(100, 4)
    held = run(tmp_path, loader(logits, target.to(form)), kind())
    assert held["task"] == "multiclass"
    assert table(held).tolist() == confusion_matrix(target, logits.argmax(1)).tolist()
    assert any("are verified: their mean is the loss" in note for note in held["notes"])


def test_values_that_are_whole_are_no_classes(tmp_path: Path) -> None:
    """Four quantiles of a count; no loss was ever given classes."""

    class Quantiles(Says):
        def loss(self, batch: Any) -> Tensor:
            apart = batch[1][:, None] - self(batch[0])
            return torch.maximum(0.5 * apart, -0.5 * apart).mean()

    logits, target = random_answers(40, 4)
    with pytest.raises(PredictionsNotFound, match="needs predictions of classes with their targets"):
        run(tmp_path, loader(logits, target.float()), Quantiles())


class Heads(Says):
    """Two questions are asked of one image; the model answers both by name."""

    def forward(self, x: Tensor) -> Any:
        return {"color": x[:, :4] + 0 * self.offset, "shape": x[:, 4:] + 0 * self.offset}

    def loss(self, batch: Any) -> Tensor:
        given = self(batch[0])
        return sum((F.cross_entropy(given[name], batch[1][name]) for name in given), torch.zeros(()))


class HeadsNamed(Heads):
    """What the step logs of each head has the head's name, too."""

    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Any:
        given = self(batch[0])
        each = {name: F.cross_entropy(given[name], batch[1][name]) for name in given}
        return {"loss": sum(each.values()), **each}


class HeadsReturned(Heads):
    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Any:
        return {"loss": self.loss(batch), "logits": self(batch[0])}


class Asked(Dataset[Any]):
    """Images with a mapping of answers to several questions."""

    def __init__(self, n: int = 60) -> None:
        (color, self.color), (shape, self.shape) = random_answers(n, 4), random_answers(n, 2, seed=1)
        self.images = torch.cat([color, shape], 1)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, at: int) -> Any:
        return self.images[at], {"color": self.color[at], "shape": self.shape[at], "age": float(at)}

    def matrix(self, head: str) -> Any:
        scores = self.images[:, :4] if head == "color" else self.images[:, 4:]
        return confusion_matrix(getattr(self, head), scores.argmax(1)).tolist()


@pytest.mark.parametrize("head", ["color", "shape"])
@pytest.mark.parametrize(("kind", "way"), [(Heads, ""), (HeadsNamed, ""), (HeadsReturned, "logits.")])
def test_one_head_of_many_is_named(kind: Any, way: str, head: str, tmp_path: Path) -> None:
    data = Asked()
    held = run(tmp_path, loader(data), kind(), predictions=way + head, target=head)
    assert table(held).tolist() == data.matrix(head)
    place = "validation_step()['logits']" if way else "forward()"
    assert f"Predictions are from {place}['{head}'], targets from batch[1]['{head}']." in held["notes"]


@pytest.mark.timeout(120)
@pytest.mark.usefixtures("no_process_left")
@pytest.mark.parametrize("options", [{}, {"strategy": "ddp_fork", "devices": 2}], ids=["alone", "two"])
def test_one_head_is_followed_in_training(options: Any, tmp_path: Path) -> None:
    data = Asked()
    callback = ErrorAnalysis(predictions="shape", target="shape", training_dynamics=True)
    trainer = pl.Trainer(default_root_dir=tmp_path, callbacks=[callback], **{**QUIET, "max_epochs": 2, **options})
    trainer.fit(Heads(), loader(data), loader(data))
    held = read(tmp_path)
    assert table(held).tolist() == data.matrix("shape")
    assert held["dynamics"]["never_learnt"] == held["n"] - sum(table(held).diagonal())


def test_of_several_calls_of_forward_the_one_with_the_name_is_meant(tmp_path: Path) -> None:
    class OneByOne(Heads):
        def forward(self, x: Tensor, head: str = "") -> Any:
            return {head: super().forward(x)[head]}

        def loss(self, batch: Any) -> Tensor:
            color, shape = (F.cross_entropy(self(batch[0], head)[head], batch[1][head]) for head in ("color", "shape"))
            return color + shape

    data = Asked()
    held = run(tmp_path, loader(data), OneByOne(), predictions="shape", target="shape")
    assert table(held).tolist() == data.matrix("shape")


def test_of_two_calls_with_the_name_none_is_guessed(tmp_path: Path) -> None:
    class Twice(Heads):
        def loss(self, batch: Any) -> Tensor:
            return super().loss(batch) + super().loss([-batch[0], batch[1]])

    assert refusal(tmp_path, Twice, predictions="shape", target="shape").endswith(
        "got 'shape'; there are none in validation_step(), and forward() was called 2 times: nobody knows which one is "
        "meant."
    )


def refusal(folder: Path, kind: type[Says], **arguments: Any) -> str:
    with pytest.raises(PredictionsNotFound) as caught:
        run(folder, loader(Asked()), kind(), **arguments)
    return str(caught.value)


@pytest.mark.parametrize(
    ("kind", "arguments", "told"),
    [
        (
            Heads,
            {"predictions": "colour", "target": "color"},
            "ErrorAnalysis needs predictions= to name an entry of what validation_step() or forward() returns, "
            "got 'colour'; there are none in validation_step(), 'color', 'shape' in forward().",
        ),
        (
            HeadsReturned,
            {"predictions": "color", "target": "kind"},
            "ErrorAnalysis needs target= to name an entry of what validation_step() returns or of the batch, got "
            "'kind'; there are 'color', 'shape' in validation_step(), 'color', 'shape', 'age' in the batch.",
        ),
    ],
)
def test_a_name_that_is_not_there_is_told_with_those_that_are(
    kind: Any, arguments: Any, told: str, tmp_path: Path
) -> None:
    assert refusal(tmp_path, kind, **arguments) == told


def test_a_name_of_two_entries_is_told_with_the_way_to_each(tmp_path: Path) -> None:
    class Both(Heads):
        def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Any:
            given = self(batch[0])
            return {"sharp": given, "smooth": {name: scores / 2 for name, scores in given.items()}}

    assert refusal(tmp_path, Both, predictions="color", target="color") == (
        "ErrorAnalysis needs predictions= to name one entry, got 'color', which may be "
        "validation_step()['sharp']['color'], validation_step()['smooth']['color']; write 'sharp.color' or "
        "'smooth.color'."
    )
    data = Asked()
    held = run(tmp_path / "named", loader(data), Both(), predictions="smooth.color", target="1.color")
    assert table(held).tolist() == data.matrix("color")


def proposals(told: str) -> list[str]:
    """What is proposed, in one line each, from the first on."""
    return [line.split(". ", 1)[1] for line in told.partition("in one of three ways:\n")[2].splitlines()]


def returns(proposal: str, kind: type[Says]) -> type[Says]:
    """The module whose step returns what a proposal says, its names bound to the head of colors."""
    code = re.search(r"return (\{.*?\})", proposal)
    if code is None:
        return kind

    class Mended(kind):
        def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Any:
            bound = {"loss": self.loss(batch), "logits": self.scores(batch), "y": batch[1]["color"]}
            return eval(code[1], bound)

    return Mended


class Called(Heads):
    """What answers is not `forward`, so that no name leads to it."""

    def loss(self, batch: Any) -> Tensor:
        given = Heads.forward(self, batch[0])
        return sum((F.cross_entropy(given[name], batch[1][name]) for name in given), torch.zeros(()))


@pytest.mark.parametrize("kind", [Heads, Called])
@pytest.mark.parametrize("at", [0, 1, 2])
def test_what_the_error_proposes_mends_it(kind: Any, at: int, tmp_path: Path) -> None:
    proposed = proposals(refusal(tmp_path / "refused", kind))
    assert len(proposed) == 3
    kind.scores = lambda self, batch: Heads.forward(self, batch[0])["color"]
    arguments = re.search(r"ErrorAnalysis\((.*)\)$", proposed[at])
    given = eval(f"dict({arguments[1]})") if arguments else {}
    data = Asked()
    held = run(tmp_path, loader(data), returns(proposed[at], kind)(), **given)
    assert table(held).tolist() == data.matrix("color")
