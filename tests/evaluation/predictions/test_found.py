"""Predictions and targets are found in real modules of each kind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from evaluation.predictions.modules import (
    IMAGES,
    LABELS,
    Base,
    CallsItself,
    KnowsOnlyItsLoss,
    ReturnsADict,
    TwoHeads,
    fit,
    pairs,
)
from monitors.breaking import QUIET
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from lightning_debugkit.evaluation.predictions.reader import PredictionReader

pytestmark = pytest.mark.filterwarnings("ignore")


class Named(Dataset[Any]):
    """Digits as dictionaries."""

    def __len__(self) -> int:
        return 200

    def __getitem__(self, index: int) -> Any:
        return {"pixels": IMAGES[index], "label": LABELS[index], "name": f"digit {index}"}


class ReturnsProbabilities(Base):
    def validation_step(self, batch: Any, batch_idx: int) -> Any:
        return {"probs": self.net(batch["pixels"]).softmax(1)}


class ReturnsTheScores(Base):
    def validation_step(self, batch: Any, batch_idx: int) -> Any:
        return self.net(batch[0])


class ReturnsATuple(Base):
    def validation_step(self, batch: Any, batch_idx: int) -> Any:
        return self.net(batch[0]), batch[1]


class LogSoftmax(Base):
    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_loss", F.nll_loss(F.log_softmax(self.net(batch[0]), dim=1), batch[1]))


class ForwardIsAnEmbedding(Base):
    """What forward returns is as long as the labels need, but what is compared is something else."""

    def forward(self, x: Tensor) -> Tensor:
        return x[:, :32]

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self(batch[0])
        self.log("val_loss", F.cross_entropy(self.net(batch[0]), batch[1]))


class TwoViews(Base):
    """Forward runs twice; the loss says which scores count."""

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        scores = (self(batch[0]) + self(batch[0].flip(1))) / 2
        self.log("val_loss", F.cross_entropy(scores, batch[1]))


class HuggingFace(Base):
    """Outputs with attributes, a batch with names."""

    def forward(self, x: Tensor) -> Any:
        return SimpleNamespace(logits=self.net(x))

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_loss", F.cross_entropy(self(batch["pixels"]).logits, batch["label"]))


class OtherNames(Base):
    def validation_step(self, batch: Any, batch_idx: int) -> Any:
        return {"mine": self.net(batch[0]), "truth": batch[1]}


def names() -> DataLoader[Any]:
    return DataLoader(Named(), batch_size=64)


def truth(module: Base, n: int = 200) -> float:
    """The second road: a plain forward of the net."""
    wrong = module.net(IMAGES[:n]).argmax(1) != LABELS[:n]
    return wrong.float().mean().item()


KINDS = [
    (CallsItself, pairs, {}, ("forward()", "batch[1]")),
    (ReturnsADict, pairs, {}, ("validation_step()['logits']", "validation_step()['target']")),
    (ReturnsProbabilities, names, {}, ("validation_step()['probs']", "batch['label']")),
    (ReturnsTheScores, pairs, {}, ("validation_step()", "batch[1]")),
    (KnowsOnlyItsLoss, pairs, {}, ("what cross_entropy() was given",) * 2),
    (LogSoftmax, pairs, {}, ("what nll_loss() was given",) * 2),
    (ForwardIsAnEmbedding, pairs, {}, ("what cross_entropy() was given",) * 2),
    (TwoViews, pairs, {}, ("what cross_entropy() was given",) * 2),
    (HuggingFace, names, {}, ("forward()", "batch['label']")),
    (
        OtherNames,
        pairs,
        {"predictions": "mine", "target": "truth"},
        ("validation_step()['mine']", "validation_step()['truth']"),
    ),
    (ReturnsATuple, pairs, {"adapter": lambda outputs, batch: outputs}, ("the adapter", "the adapter")),
    (ReturnsATuple, pairs, {"adapter": "evaluation.predictions.test_found.as_mapping"}, ("the adapter", "the adapter")),
]  # fmt: skip


def as_mapping(outputs: Any, batch: Any) -> Any:
    return {"logits": outputs[0], "target": outputs[1]}


@pytest.mark.parametrize(("kind", "loader", "arguments", "places"), KINDS)
@pytest.mark.parametrize("sanity", [0, 2])
def test_a_usual_module_needs_no_change(
    kind: type[Base], loader: Callable[[], Any], arguments: Any, places: Any, sanity: int, tmp_path: Path,
    monkeypatch: Any,
) -> None:  # fmt: skip
    monkeypatch.setitem(QUIET, "num_sanity_val_steps", sanity)
    module = kind()
    callback = fit(module, tmp_path, loader(), **arguments)
    (moment,) = callback.memory.moments
    assert callback.looks.gauge.reader.places["validation_step"] == places
    value, *_, n = moment["errors"]["val"]
    assert n == 200
    if kind is not TwoViews:
        assert value == pytest.approx(truth(module))
    assert moment["errors"]["train"][0] == pytest.approx(value), "the same data, the same step"


@pytest.mark.parametrize("sanity", [0, 2])
def test_of_several_losses_that_of_the_batch_s_own_target_counts(sanity: int, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setitem(QUIET, "num_sanity_val_steps", sanity)
    module = TwoHeads()
    callback = fit(module, tmp_path, pairs())
    (moment,) = callback.memory.moments
    assert moment["errors"]["val"][0] == pytest.approx(truth(module))


def test_own_values_by_chance_do_not_hide_the_own_target() -> None:
    """Labels of the first batch that are their own remainders."""
    module, reader = TwoHeads(), PredictionReader("Report")
    for labels in (torch.tensor([0, 1, 2, 1]), torch.tensor([7, 8, 9, 3])):
        batch = [IMAGES[:4], labels]
        reader.begin("validation_step", module, watch=True)
        outputs = module.validation_step(batch, 0)
        found = reader.read("validation_step", module, outputs, batch)
        assert (found.predictions.shape, found.target.tolist()) == ((4, 10), labels.tolist())
