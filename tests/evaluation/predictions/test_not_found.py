"""Where predictions cannot be found nothing is guessed: what was seen is told, and how to mend it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
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

from lightning_debugkit.evaluation.predictions.reader import PredictionReader, PredictionsNotFound

pytestmark = pytest.mark.filterwarnings("ignore")


class Silent(Base):
    """A loss of its own making, a net called by name, nothing returned."""

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        scores = self.net(batch[0])
        self.log("val_loss", (scores.logsumexp(1) - scores.gather(1, batch[1][:, None])[:, 0]).mean())


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


def test_a_path_that_leads_nowhere_is_told() -> None:
    with pytest.raises(ValueError) as caught:
        PredictionReader("Report", adapter="operator.no_such_thing")
    assert str(caught.value) == "module 'operator' has no function 'no_such_thing'"
