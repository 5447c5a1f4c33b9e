"""Predictions and targets are found in real modules of each kind, and nothing is guessed where they cannot be."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
import torch.nn.functional as F
from monitors.breaking import QUIET
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

from lightning_debugkit import BiasVarianceReport
from lightning_debugkit.evaluation.predictions.reader import PredictionReader, PredictionsNotFound
from lightning_debugkit.evaluation.predictions.wrong_samples import NoClasses, cut_of, scored

pytestmark = pytest.mark.filterwarnings("ignore")

IMAGES, LABELS = (torch.as_tensor(part) for part in load_digits(return_X_y=True))
IMAGES = IMAGES.float() / 16


class Named(Dataset[Any]):
    """Digits as dictionaries."""

    def __len__(self) -> int:
        return 200

    def __getitem__(self, index: int) -> Any:
        return {"pixels": IMAGES[index], "label": LABELS[index], "name": f"digit {index}"}


class Base(pl.LightningModule):
    """A linear reader of digits; how the step tells what it thinks is up to the kinds below."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.net = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        x, y = (batch["pixels"], batch["label"]) if isinstance(batch, dict) else batch[:2]
        return F.cross_entropy(self.net(x), y)

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.0)


class CallsItself(Base):
    def validation_step(self, batch: Any, batch_idx: int) -> Any:
        return F.cross_entropy(self(batch[0]), batch[1])


class ReturnsADict(Base):
    def validation_step(self, batch: Any, batch_idx: int) -> Any:
        logits = self.net(batch[0])
        return {"loss": F.cross_entropy(logits, batch[1]), "logits": logits, "target": batch[1]}


class ReturnsProbabilities(Base):
    def validation_step(self, batch: Any, batch_idx: int) -> Any:
        return {"probs": self.net(batch["pixels"]).softmax(1)}


class ReturnsTheScores(Base):
    def validation_step(self, batch: Any, batch_idx: int) -> Any:
        return self.net(batch[0])


class ReturnsATuple(Base):
    def validation_step(self, batch: Any, batch_idx: int) -> Any:
        return self.net(batch[0]), batch[1]


class KnowsOnlyItsLoss(Base):
    """The net is called by name, nothing is returned: only the loss function sees the scores."""

    def __init__(self) -> None:
        super().__init__()
        self.loss = nn.CrossEntropyLoss()

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_loss", self.loss(self.net(batch[0]), batch[1]))


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


class Silent(Base):
    """A loss of its own making, a net called by name, nothing returned."""

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        scores = self.net(batch[0])
        self.log("val_loss", (scores.logsumexp(1) - scores.gather(1, batch[1][:, None])[:, 0]).mean())


def pairs(n: int = 200) -> DataLoader[Any]:
    return DataLoader(TensorDataset(IMAGES[:n], LABELS[:n]), batch_size=64)


def names() -> DataLoader[Any]:
    return DataLoader(Named(), batch_size=64)


def fit(module: pl.LightningModule, folder: Path, loader: DataLoader[Any], **arguments: Any) -> BiasVarianceReport:
    callback = BiasVarianceReport(**arguments)
    trainer = pl.Trainer(default_root_dir=folder, callbacks=[callback], max_epochs=1, **QUIET)
    trainer.fit(module, loader, loader)
    return callback


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


class TwoHeads(Base):
    """A second question is asked of the same images first."""

    def __init__(self) -> None:
        super().__init__()
        self.aux = nn.Linear(64, 3)

    def validation_step(self, batch: Any, batch_idx: int) -> Any:
        x, y = batch
        return 0.1 * F.cross_entropy(self.aux(x), y % 3) + F.cross_entropy(self.net(x), y)


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


def test_losses_of_which_none_can_be_told_are_listed() -> None:
    class Supervised(TwoHeads):
        def validation_step(self, batch: Any, batch_idx: int) -> Any:
            x, y = batch
            return F.cross_entropy(self.aux(x), y % 3) + F.mse_loss(x, x) + F.cross_entropy(self.net(x), 9 - y)

    module, batch, reader = Supervised(), [IMAGES[:64], LABELS[:64]], PredictionReader("Report")
    reader.begin("validation_step", module, watch=True)
    with pytest.raises(PredictionsNotFound) as caught:
        reader.read("validation_step", module, module.validation_step(batch, 0), batch)
    assert (
        "  loss functions were given: cross_entropy(float32[64, 3], int64[64]); "
        "mse_loss(float32[64, 64], float32[64, 64]); cross_entropy(float32[64, 10], int64[64])\nMend it"
    ) in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (
            {"predictions": "foo"},
            "Report needs predictions= to name an entry of what validation_step() or forward() returns, got 'foo'; "
            "there are 'logits', 'target' in validation_step(), and forward() was not called.",
        ),
        (
            {"target": "bar"},
            "Report needs target= to name an entry of what validation_step() returns or of the batch, got 'bar'; "
            "there are 'logits', 'target' in validation_step(), none in the batch.",
        ),
    ],
)
def test_a_name_that_is_not_there_is_refused(arguments: Any, told: str) -> None:
    module, batch, reader = ReturnsADict(), [IMAGES[:200], LABELS[:200]], PredictionReader("Report", **arguments)
    reader.begin("validation_step", module, watch=True)
    with pytest.raises(PredictionsNotFound) as caught:
        reader.read("validation_step", module, module.validation_step(batch, 0), batch)
    assert str(caught.value) == told


def test_predictions_by_name_are_not_given_up_where_targets_are_missing() -> None:
    """Else the scores of the loss would be taken, which are others."""

    class Calibrated(Base):
        def validation_step(self, batch: Any, batch_idx: int) -> Any:
            scores = self.net(batch["pixels"])
            return {"loss": F.cross_entropy(scores, batch["digit"]), "mine": scores / 2}

    module, batch = Calibrated(), {"pixels": IMAGES[:8], "digit": LABELS[:8]}
    reader = PredictionReader("Report", predictions="mine")
    reader.begin("validation_step", module, watch=True)
    with pytest.raises(PredictionsNotFound, match=r"needs target= to name an entry of .*'digit'"):
        reader.read("validation_step", module, module.validation_step(batch, 0), batch)


@pytest.mark.parametrize("sanity", [0, 2])
def test_what_cannot_be_found_is_told_at_the_first_batch(sanity: int, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setitem(QUIET, "num_sanity_val_steps", sanity)
    with pytest.raises(PredictionsNotFound) as caught:
        fit(Silent(), tmp_path, pairs())
    rows = 64 if sanity else 1  # without a sanity check, one training sample is tried before the first step
    assert str(caught.value) == (
        "BiasVarianceReport needs the model's predictions and their targets, and found none for this batch.\n"
        "  validation_step() returned: nothing\n"
        f"  the batch is: list(float32[{rows}, 64], int64[{rows}])\n"
        "  forward() returned: not called\n"
        "Mend it in one of three ways:\n"
        '  1. return them from validation_step: return {"loss": loss, "logits": logits, "target": y}\n'
        '  2. or return {"loss": loss, "my_scores": logits, "my_label": y} and name the keys: '
        'BiasVarianceReport(predictions="my_scores", target="my_label")\n'
        '  3. or return {"loss": loss, "mine": logits} and give a function: '
        'BiasVarianceReport(adapter=lambda outputs, batch: (outputs["mine"], batch[1]))'
    )


def test_in_a_preset_it_warns_once_and_goes_without(tmp_path: Path, caplog: Any) -> None:
    callback = fit(Silent(), tmp_path, pairs(), on_missing="warn")
    assert callback.memory.moments == []
    warned = [record for record in caplog.records if "leaves its section out" in record.getMessage()]
    assert len(warned) == 1
    assert not (tmp_path / "debugkit" / "bias_variance.json").exists()


def test_neither_module_nor_torch_keeps_an_instrument(tmp_path: Path) -> None:
    from torch.overrides import _get_current_function_mode_stack

    for kind in (CallsItself, KnowsOnlyItsLoss):
        module = kind()
        fit(module, tmp_path / kind.__name__, pairs())
        assert (len(module._forward_hooks), len(_get_current_function_mode_stack())) == (0, 0)


def test_an_exception_in_the_step_leaves_no_instrument(tmp_path: Path) -> None:
    from torch.overrides import _get_current_function_mode_stack

    class Breaks(KnowsOnlyItsLoss):
        def validation_step(self, batch: Any, batch_idx: int) -> None:
            super().validation_step(batch, batch_idx)
            if not self.trainer.sanity_checking and batch_idx == 1:
                raise RuntimeError("the user's own")

    with pytest.raises(RuntimeError, match="the user's own"):
        fit(Breaks(), tmp_path, pairs(), train_samples=64)
    assert _get_current_function_mode_stack() == []


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


def test_a_path_that_leads_nowhere_is_told() -> None:
    with pytest.raises(ValueError) as caught:
        PredictionReader("Report", adapter="operator.no_such_thing")
    assert str(caught.value) == (
        "adapter needs the dotted path of a function, got 'operator.no_such_thing'; check the spelling."
    )
