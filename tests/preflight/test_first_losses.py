"""The first losses stand beside what one who knows nothing of the inputs would get, by torch's own functions."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from faults.preflight import Net
from faults.registry import mlp
from monitors.breaking import QUIET
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from lightning_debugkit import PreflightCheck, read_journal
from lightning_debugkit.preflight import attainable
from lightning_debugkit.preflight.attainable import at_start
from lightning_debugkit.preflight.listener import StepListener

Y = torch.tensor([0, 0, 0, 1, 1, 2, 2, 2])
LOGITS = torch.randn(8, 3, generator=torch.Generator().manual_seed(0))
SHARES = torch.tensor([3, 2, 3]) / 8
NUMBERS = torch.arange(8.0)


def heard(step: Any) -> dict[str, float]:
    listener = StepListener({})
    with listener:
        step()
    return at_start(listener.calls[0])


@pytest.mark.parametrize(
    ("step", "uniform", "constant"),
    [
        (lambda: F.cross_entropy(LOGITS, Y), math.log(3), float(-(SHARES * SHARES.log()).sum())),
        (lambda: F.mse_loss(LOGITS[:, 0], NUMBERS), None, float(NUMBERS.var(correction=0))),
        (
            lambda: F.binary_cross_entropy_with_logits(LOGITS[:, 0], (Y == 1).float()),
            math.log(2),
            -0.25 * math.log(0.25) - 0.75 * math.log(0.75),
        ),
    ],
)
def test_what_is_expected_is_the_logarithm_of_the_classes_the_entropy_and_the_variance(
    step: Any, uniform: float | None, constant: float
) -> None:
    told = heard(step)
    assert told["loss"] == pytest.approx(float(step()))
    assert told.get("uniform") == (None if uniform is None else pytest.approx(uniform))
    assert told["constant"] == pytest.approx(constant, rel=1e-4)


def test_of_a_sum_and_of_a_divergence_nothing_is_expected() -> None:
    assert heard(lambda: F.cross_entropy(LOGITS, Y, reduction="sum")) == {}
    assert heard(lambda: F.kl_div(LOGITS.log_softmax(1), LOGITS.softmax(1), reduction="batchmean")) == {}


def test_of_many_numbers_the_best_answer_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attainable, "LARGEST", 8)
    assert set(heard(lambda: F.cross_entropy(LOGITS, Y))) == {"loss", "uniform"}


@pytest.mark.usefixtures("with_report")
@pytest.mark.filterwarnings("ignore")
def test_the_report_draws_the_first_loss_only(tmp_path: Path) -> None:
    pl.seed_everything(0, verbose=False)
    x: Tensor = torch.randn(320, 8)
    pl.Trainer(max_epochs=1, default_root_dir=tmp_path, callbacks=[PreflightCheck()], **QUIET).fit(
        Net(True, mlp(8, 16, 4)), DataLoader(TensorDataset(x, x[:, :4].argmax(1)), 32)
    )
    folder = tmp_path / "debugkit"
    [told] = [event for event in read_journal(folder).of_kind("measure") if event["name"] == "preflight"]
    [(source, marks)] = told["value"]["at_start"].items()
    assert source.startswith("faults/registry.py:")
    assert marks["uniform"] == pytest.approx(math.log(4))
    assert marks["constant"] <= marks["uniform"] < 1.5 * marks["loss"]
    assert "First losses against what is expected" in (folder / "report.md").read_text()
    drawn = (folder / "figures" / "first-losses.svg").read_text()
    assert source.split(":", 2)[1] in drawn


@pytest.mark.parametrize(("total", "told"), [(Tensor.sum, ["loss-reduction"]), (Tensor.mean, [])])
def test_a_sum_over_the_batch_that_is_written_by_hand_is_told(total: Any, told: list[str], tmp_path: Path) -> None:
    class Numbers(Net):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            x, y = batch
            loss: Tensor = total((self(x) - y) ** 2)
            return loss

    data = DataLoader(TensorDataset(torch.randn(320, 8), torch.randn(320, 4)), 32)
    trainer = pl.Trainer(max_epochs=1, default_root_dir=tmp_path, callbacks=[PreflightCheck()], **QUIET)
    trainer.fit(Numbers(True, mlp(8, 16, 4)), data)
    assert [finding.rule for finding in read_journal(tmp_path / "debugkit").findings] == told
