"""Simple models beside the network: what they reach is what scikit-learn says, and the report shows both."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from faults.preflight import Net, Regressor
from faults.registry import batches, diabetes, digits
from monitors.breaking import QUIET
from sklearn.metrics import r2_score

from lightning_debugkit import DataCheck, read_journal
from lightning_debugkit.data.baseline import EXTRA, baselines


def test_classes_are_scored_by_accuracy_and_the_trivial_answer_is_the_largest_share() -> None:
    x, y = (part.numpy() for part in digits(900))
    found = baselines(x[:600], y[:600], x[600:], y[600:])
    rows = {row["model"]: row for row in found["rows"]}
    most = np.bincount(y[:600]).argmax()
    assert rows["most frequent class"]["value"] == pytest.approx((y[600:] == most).mean())
    assert rows["logistic regression"]["value"] > 0.85
    assert all(row["low"] <= row["value"] <= row["high"] for row in rows.values())


def test_numbers_are_scored_by_the_variance_that_is_explained() -> None:
    x, y = (part.numpy() for part in diabetes())
    y = y[:, 0]
    found = baselines(x[:300], y[:300], x[300:], y[300:])
    rows = {row["model"]: row for row in found["rows"]}
    assert found["metric"] == "R2"
    assert rows["mean"]["value"] == pytest.approx(r2_score(y[300:], np.full(142, y[:300].mean())), abs=1e-5)
    assert rows["mean"]["high"] < rows["ridge regression"]["low"]


def test_without_scikit_learn_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.dummy", None)
    assert baselines(np.ones((4, 2)), np.array([0, 1, 0, 1]), np.ones((4, 2)), np.array([0, 1, 0, 1])) == {
        "left_out": EXTRA
    }


class Logging(Net):
    def validation_step(self, batch: Any, batch_idx: int) -> None:
        x, y = batch
        self.log("val_acc", (self(x).argmax(1) == y).float().mean())


@pytest.mark.usefixtures("with_report")
@pytest.mark.filterwarnings("ignore")
def test_the_report_sets_the_network_beside_them(tmp_path: Path) -> None:
    pl.seed_everything(1, verbose=False)
    x, y = digits(900)
    trainer = pl.Trainer(max_epochs=1, default_root_dir=tmp_path, callbacks=[DataCheck(baseline=True)], **QUIET)
    trainer.fit(Logging(True), batches(x[:600], y[:600]), batches(x[600:], y[600:], shuffle=False))
    told = (tmp_path / "debugkit" / "report.md").read_text()
    assert "learned from 600 training samples and scored on 300 of validation" in told
    assert "gradient boosting" in told
    assert "the network, as logged (val" in told


@pytest.mark.filterwarnings("ignore")
def test_targets_that_are_numbers_are_found_in_a_fit_and_the_run_is_left_alone(tmp_path: Path) -> None:
    x, y = diabetes()
    ends = []
    for name, kit in (("with", [DataCheck(baseline=True)]), ("without", [])):
        pl.seed_everything(1, verbose=False)
        module = Regressor(True)
        trainer = pl.Trainer(max_epochs=2, default_root_dir=tmp_path / name, callbacks=kit, **QUIET)
        module.validation_step = lambda batch, batch_idx: None
        trainer.fit(module, batches(x[:300], y[:300]), batches(x[300:], y[300:], shuffle=False))
        ends.append({**module.state_dict(), "random": torch.rand(1), "numpy": torch.tensor(np.random.rand())})
    assert all(torch.equal(ends[0][key], ends[1][key]) for key in ends[0])
    [told] = [
        m["value"] for m in read_journal(tmp_path / "with" / "debugkit").of_kind("measure") if m["name"] == "baseline"
    ]
    assert told["metric"] == "R2"
