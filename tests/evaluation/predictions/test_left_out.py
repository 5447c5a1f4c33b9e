"""What is no classification is not taken for one, and what is left out is said in words that can be acted on."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import lightning.pytorch as pl
import pytest
import torch
import torch.nn.functional as F
from monitors.breaking import QUIET
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from lightning_debugkit import BiasVarianceReport, ErrorAnalysis, debugkit, read_journal
from lightning_debugkit.evaluation.predictions.reader import PredictionsNotFound

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.filterwarnings("ignore")]

X = torch.linspace(-2, 2, 64).unsqueeze(1)


class Fits(pl.LightningModule):
    def __init__(self, loss: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.net, self.of = torch.nn.Linear(1, 1), loss

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return self.of(self.net(batch[0]), batch[1])

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_loss", self.of(self.net(batch[0]), batch[1]))

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), 0.01)


def fit(folder: Path, module: pl.LightningModule, *callbacks: pl.Callback, y: Tensor | None = None) -> Path:
    data = DataLoader(TensorDataset(X, torch.sin(3 * X) if y is None else y), 16)
    pl.Trainer(default_root_dir=folder, callbacks=list(callbacks), max_epochs=1, **QUIET).fit(module, data, data)
    return folder / "debugkit"


def quiet() -> list[pl.Callback]:
    return [ErrorAnalysis(on_missing="warn"), BiasVarianceReport(on_missing="warn")]


RESIDUALS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "zeros_like": lambda z, y: F.mse_loss(z - y, torch.zeros_like(y)),
    "zeros": lambda z, y: F.l1_loss(z - y, torch.zeros(len(y), 1)),
    "new_zeros": lambda z, y: F.smooth_l1_loss(z - y, y.new_zeros(y.shape)),
    "expanded": lambda z, y: F.huber_loss((z - y)[:, 0], torch.tensor(0.0).expand(len(y))),
    "of a product": lambda z, y: F.mse_loss(z - y, y * 0),
    "ones": lambda z, y: F.mse_loss(z / (y + 2), torch.ones_like(y)),
    "two": lambda z, y: F.mse_loss(z - y, torch.zeros_like(y)) + F.mse_loss(z[:1], torch.zeros(1, 1)),
}


@pytest.mark.parametrize("name", RESIDUALS)
def test_residuals_against_a_number_are_no_classification(name: str, tmp_path: Path) -> None:
    folder = fit(tmp_path, Fits(RESIDUALS[name]), *quiet())
    assert not (folder / "errors.json").exists()
    assert not (folder / "bias_variance.json").exists()


@pytest.mark.parametrize("y", [torch.arange(64)[:, None] % 2, torch.arange(64)[:, None] // 32])
def test_yes_and_no_of_the_batch_are_one_also_where_the_first_batches_know_only_no(y: Tensor, tmp_path: Path) -> None:
    folder = fit(tmp_path, Fits(F.mse_loss), *quiet(), y=y.float())
    assert (folder / "errors.json").exists()
    assert (folder / "bias_variance.json").exists()


class Output(NamedTuple):
    prediction: Tensor


class Forecasts(pl.LightningModule):
    """Inputs are a dict with an index of time steps, targets stand beside a weight that is none."""

    def __init__(self, is_torchs: bool) -> None:
        super().__init__()
        self.net, self.is_torchs = torch.nn.Linear(24, 18), is_torchs

    def forward(self, x: Any) -> Output:
        return Output(self.net(x["encoder"]).view(-1, 6, 3))

    def step(self, batch: Any) -> Tensor:
        x, (y, _) = batch
        error = y[..., None] - self(x).prediction
        if self.is_torchs:
            return F.l1_loss(self(x).prediction[..., 0], y) + F.mse_loss(self(x).prediction[..., 1], y)
        return torch.maximum(0.5 * error, -0.5 * error).mean()

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return self.step(batch)

    def validation_step(self, batch: Any, batch_idx: int) -> Any:
        return {"loss": self.step(batch), "n": len(batch[1][0])}

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), 0.01)


def windows(samples: list[int]) -> Any:
    y = torch.sin(torch.arange(30.0) + torch.tensor(samples)[:, None])
    times = torch.arange(6) + torch.tensor(samples)[:, None]
    return {"encoder": y[:, :24], "decoder_time_idx": times, "length": times[:, 0]}, (y[:, 24:], None)


def forecast(folder: Path, *callbacks: pl.Callback, is_torchs: bool = False, again: bool = False) -> None:
    data = DataLoader(range(64), 16, collate_fn=windows)
    trainer = pl.Trainer(default_root_dir=folder, callbacks=list(callbacks), max_epochs=1, **QUIET)
    trainer.fit(Forecasts(is_torchs), data, data)
    if again:
        trainer.validate(Forecasts(is_torchs), data)


@pytest.mark.parametrize("is_torchs", [False, True])
def test_no_part_of_the_input_is_offered_as_the_target(is_torchs: bool, tmp_path: Path, caplog: Any) -> None:
    forecast(tmp_path, *quiet(), is_torchs=is_torchs)
    hints = [line for line in caplog.text.splitlines() if line.strip()[:2] in ("2.", "3.")]
    assert len(hints) == 4
    assert not any("time_idx" in hint or "length" in hint for hint in hints)
    assert all("batch[1][0]" in hint for hint in hints if hint.strip()[:2] == "3.")


@pytest.mark.usefixtures("no_code")
def test_who_has_no_arguments_to_give_gets_one_line(
    tmp_path: Path, caplog: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the environment variable adds them."""
    monkeypatch.setenv("LIGHTNING_DEBUGKIT", "thorough")
    with caplog.at_level(logging.WARNING, logger="lightning_debugkit"):
        forecast(tmp_path)
    said = [record.getMessage() for record in caplog.records if "leaves its section out" in record.getMessage()]
    assert len(said) == 1
    assert said[0].count("\n") == 0
    assert "Mend" not in said[0]
    assert "predictions=" not in said[0]


@pytest.mark.usefixtures("no_code")
@pytest.mark.parametrize("again", [False, True])
def test_who_has_them_gets_all_once(again: bool, tmp_path: Path, caplog: Any) -> None:
    forecast(tmp_path, *debugkit("thorough"), again=again)
    assert caplog.text.count("Mend it in one of three ways") == 2


class UsesItsBatchUp(Fits):
    """As environments that are reset in place by what they are given; the loss is one that nobody listens to."""

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        x, y = batch.pop(0), batch.pop(0)
        self.log("val_loss", (self.net(x) - y).square().mean(), batch_size=len(x))


def test_a_step_that_cannot_run_twice_on_its_batch_is_left_out_without_trouble(tmp_path: Path) -> None:
    folder = fit(tmp_path, UsesItsBatchUp(F.mse_loss), *quiet())
    events = read_journal(folder)
    assert events.of_kind("trouble") == []
    assert [event["status"] for event in events.of_kind("end")] == ["finished"]


def test_the_step_that_cannot_run_twice_is_named(tmp_path: Path) -> None:
    said = "BiasVarianceReport runs validation_step again on its batch to hear its loss function, and that failed: "
    with pytest.raises(PredictionsNotFound, match=said + "IndexError: pop from empty list"):
        fit(tmp_path, UsesItsBatchUp(F.mse_loss), BiasVarianceReport())
