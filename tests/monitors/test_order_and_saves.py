"""What stands around the training: files of Lightning's own `ModelCheckpoint`, and the order of the samples."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import lightning
import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from monitors.breaking import QUIET, journal
from packaging.version import Version
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_debugkit import ExactResume, Finding, GradientAnomalyDetector, NestedCheckpoint, Severity

pytestmark = pytest.mark.filterwarnings("ignore")
stays_at_the_best = pytest.mark.skipif(
    Version(lightning.__version__) < Version("2.6"), reason="Lightning before 2.6 renews last.ckpt at each validation"
)


class Net(pl.LightningModule):
    """Logs its loss in training, and a score in each validation, the one it is told."""

    def __init__(self, scores: tuple[float, ...] = (3.0, 2.0, 4.0, 5.0), stop: int = -1, **log: bool) -> None:
        super().__init__()
        self.net, self.scores, self.stop, self.log_options = nn.Linear(4, 1), scores, stop, log

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        if self.global_step == self.stop:
            raise RuntimeError("stop here")
        loss = self.net(batch[0]).square().mean()
        self.log("loss", loss, **self.log_options)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_loss", torch.tensor(self.scores[self.current_epoch]))

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.01)


def loader(shuffle: bool = True) -> DataLoader[Any]:
    return DataLoader(TensorDataset(torch.randn(40, 4)), batch_size=4, shuffle=shuffle)


def fit(folder: Path, *callbacks: pl.Callback, module: Any = None, train: Any = None, **options: Any) -> list[Finding]:
    """Fit four epochs of ten steps, and return what was found of the surroundings."""
    ckpt_path = options.pop("ckpt_path", None)
    options = {**QUIET, "max_epochs": 4, "num_sanity_val_steps": 0, **options}
    options["enable_checkpointing"] = any(isinstance(one, pl.callbacks.Checkpoint) for one in callbacks)
    pl.seed_everything(5, verbose=False)
    trainer = pl.Trainer(default_root_dir=folder, callbacks=[GradientAnomalyDetector(), *callbacks], **options)
    module = module or Net()
    stops = isinstance(module, Net) and module.stop >= 0
    with pytest.raises(RuntimeError, match="stop here") if stops else contextlib.nullcontext():
        trainer.fit(module, train or loader(), loader(False), ckpt_path=ckpt_path)
    found = journal(folder).findings
    return [finding for finding in found if finding.rule in ("checkpoint-stale", "order-repeats")]


def keep(folder: Path, **options: Any) -> ModelCheckpoint:
    return ModelCheckpoint(dirpath=folder / "saved", **options)


@stays_at_the_best
def test_a_last_file_that_is_old_is_told(tmp_path: Path) -> None:
    (finding,) = fit(tmp_path, keep(tmp_path, monitor="val_loss", save_last=True))
    assert finding.severity == Severity.INFO
    assert "last.ckpt is of step 20, 2 epochs older than the run" in finding.message
    assert torch.load(tmp_path / "saved" / "last.ckpt", weights_only=True)["global_step"] == 20


@stays_at_the_best
def test_after_an_exception_it_is_a_warning(tmp_path: Path) -> None:
    (finding,) = fit(tmp_path, keep(tmp_path, monitor="val_loss", save_last=True), module=Net(stop=35))
    assert finding.severity == Severity.WARNING
    assert (finding.evidence["saved"], finding.evidence["epochs"]) == (20, 1)


@pytest.mark.parametrize(
    ("name", "missing"), [("{epoch}-{step}-{val_loss:.2f}-{loss:.1e}", []), ("{epoch}-{val/loss:.2f}", ["val/loss"])]
)
def test_a_name_by_a_metric_that_nothing_logs_is_told(name: str, missing: list[str], tmp_path: Path) -> None:
    kept = keep(tmp_path, monitor="val_loss", filename=name)
    fit(tmp_path, kept, module=Net((5.0, 4.0, 3.0, 2.0)))
    assert (f"{0:.2f}" in kept.best_model_path) == bool(missing)
    told = [one for one in journal(tmp_path).findings if one.rule == "monitor-missing"]
    assert [one.evidence["metric"] for one in told] == missing
    assert all("val/loss, which nothing logs (val_loss is logged): each name says 0" in one.message for one in told)


@pytest.mark.parametrize(
    "options",
    [
        {"monitor": "val_loss"},  # nobody asked for the last
        {"monitor": "val_loss", "save_last": True, "save_top_k": -1},
        {"save_last": True},
        {"monitor": "val_loss", "save_last": True, "every_n_epochs": 2},  # it improves from the second to the fourth
        {"monitor": "loss", "save_last": True, "save_top_k": 4},
    ],
)
def test_files_that_are_as_they_are_called_are_left_in_peace(options: Any, tmp_path: Path) -> None:
    module = Net((3.0, 2.0, 4.0, 1.0), on_step=False, on_epoch=True)
    assert fit(tmp_path, keep(tmp_path, **options), module=module) == []


def test_a_run_that_only_gets_better_is_left_in_peace(tmp_path: Path) -> None:
    kept = keep(tmp_path, monitor="val_loss", save_last=True)
    assert fit(tmp_path, kept, module=Net((5.0, 4.0, 3.0, 2.0))) == []


@pytest.mark.parametrize(
    ("options", "trainer"),
    [
        ({"every_n_train_steps": 7}, {}),
        ({"every_n_train_steps": 5}, {"val_check_interval": 5}),  # saved before the validation that follows
        ({"save_on_train_epoch_end": True}, {"check_val_every_n_epoch": 2}),
    ],
)
def test_a_file_ranked_by_an_older_validation_is_told(options: Any, trainer: Any, tmp_path: Path) -> None:
    (finding,) = fit(tmp_path, keep(tmp_path, monitor="val_loss", save_top_k=-1, **options), **trainer)
    assert finding.severity == Severity.WARNING
    assert finding.evidence["measured"] < finding.evidence["saved"]


@pytest.mark.parametrize(
    "trainer",
    [{}, {"check_val_every_n_epoch": 2}, {"val_check_interval": 5}, {"val_check_interval": 7}],
)
def test_a_file_of_a_validation_is_left_in_peace(trainer: Any, tmp_path: Path) -> None:
    assert fit(tmp_path, keep(tmp_path, monitor="val_loss", save_top_k=-1), **trainer) == []


def test_a_file_ranked_by_the_loss_before_its_update_is_told(tmp_path: Path) -> None:
    (finding,) = fit(tmp_path, keep(tmp_path, monitor="loss", every_n_train_steps=5, save_top_k=2))
    assert (finding.severity, finding.evidence["monitor"]) == (Severity.INFO, "loss")


def test_the_kits_own_is_left_in_peace(tmp_path: Path) -> None:
    assert fit(tmp_path, NestedCheckpoint(monitor="val_loss")) == []


@pytest.mark.parametrize("exact", [False, True])
def test_a_resumed_run_that_shuffles_anew_is_told(exact: bool, tmp_path: Path) -> None:
    """As information; and it does not do so with `ExactResume`."""
    more = [ExactResume()] if exact else []
    assert fit(tmp_path / "1", keep(tmp_path, save_last=True), *more, max_epochs=2) == []
    again = fit(tmp_path / "2", *more, ckpt_path=tmp_path / "saved" / "last.ckpt")
    assert (
        [(finding.rule, finding.severity) for finding in again] == [] if exact else [("order-repeats", Severity.INFO)]
    )
    if again:
        assert again[0].message.startswith("epoch 2 gives the training samples in the order of epoch 0")


@pytest.mark.parametrize(("shuffle", "options"), [(True, {}), (False, {}), (True, {"overfit_batches": 2})])
def test_usual_orders_are_left_in_peace(shuffle: bool, options: Any, tmp_path: Path) -> None:
    assert fit(tmp_path, train=loader(shuffle), **options) == []
