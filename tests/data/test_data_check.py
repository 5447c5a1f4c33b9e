"""What `DataCheck` takes for inputs and labels, and that it leaves no trace."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from faults import data
from torch import Tensor

from lightning_debugkit import DataCheck, read_journal
from lightning_debugkit.core.finding import Where
from lightning_debugkit.data import callback, duplicates, labels, neighbours
from lightning_debugkit.data.seen import Seen, parts_of

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.filterwarnings("ignore::UserWarning")]
HERE = Where(0, 0)


def fit(folder: Path, *callbacks: pl.Callback) -> dict[str, Tensor]:
    pl.seed_everything(5, verbose=False)
    program = data.validation_copied_from_training(False)
    quiet = {"enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
    options = {"accelerator": "cpu", "devices": 1, "logger": False, "max_epochs": 2, **quiet}
    pl.Trainer(default_root_dir=folder, callbacks=list(callbacks), **options).fit(
        program.module, program.train, program.val
    )
    return {**program.module.state_dict(), "random": torch.rand(1)}


def test_weights_and_random_states_are_those_of_a_run_without_it(tmp_path: Path) -> None:
    expected = fit(tmp_path / "alone")
    callback = DataCheck()
    found = fit(tmp_path / "watched", callback)
    assert [key for key in expected if not torch.equal(expected[key], found[key])] == []
    journal = read_journal(tmp_path / "watched" / "debugkit")
    [told] = [finding for finding in journal.findings if finding.rule == "train-val-overlap"]
    # 100 of 400 were copied from 800, and all of both splits flowed by.
    assert (told.evidence["count"], told.evidence["seen"], told.evidence["trained"]) == (100, 400, 800)
    assert (callback._train.prints, callback._val.prints) == ([], [])
    assert journal.of_kind("trouble") == []


X, Y = torch.rand(6, 5), torch.arange(6)


@pytest.mark.parametrize(
    ("batch", "has_labels"),
    [
        ((X, Y), True),
        ({"image": X, "label": Y, "index": Y}, True),
        ({"image": X, "row": Y, "index": Y}, False),
        ((X, torch.rand(6)), False),
        ((X, torch.zeros(6, 3, dtype=torch.long)), False),
    ],
)
def test_labels_are_taken_where_they_are_certain(batch: Any, has_labels: bool) -> None:
    values, found = parts_of(batch, 6)
    assert values is not None
    assert values.shape[0] == 6
    assert (found is Y) == has_labels


def test_equal_samples_have_equal_prints_and_others_have_not() -> None:
    seen = Seen()
    seen.take((torch.cat([X, X[:2], X[:1] + 1e-6]), torch.arange(9)))
    assert len(seen.prints) == 9
    assert seen.prints[:2] == seen.prints[6:8]
    assert len(set(seen.prints)) == 7


def rules(findings: Any) -> list[str]:
    return [finding.rule for finding in findings]


def test_rows_that_are_equal_by_chance_are_no_overlap() -> None:
    few = [bytes([value]) for value in np.random.default_rng(0).integers(0, 40, 400)]
    common = {"is_plain": True, "is_same": False, "where": HERE}
    assert rules(duplicates.judge(few[:300], few[300:], is_rich=False, **common)) == []
    assert "train-val-overlap" in rules(duplicates.judge(few[:300], few[300:], is_rich=True, **common))


def test_a_split_that_validates_on_training_on_purpose_is_no_overlap() -> None:
    prints = [bytes([value]) for value in range(200)]
    assert rules(duplicates.judge(prints, prints, True, True, True, HERE)) == []


def test_validation_on_training_data_alone_may_be_meant_and_a_leak_is_not() -> None:
    prints = [bytes([value]) for value in range(200)]
    [meant] = duplicates.judge(prints[:150], prints[:50], True, False, True, HERE)
    [leak] = duplicates.judge(prints[:150], prints[120:], True, False, True, HERE)
    assert (str(meant.severity), str(leak.severity)) == ("info", "warning")


@pytest.mark.parametrize("classes_a_batch", [1, 4])
def test_batches_of_some_of_each_class_are_not_ordered(classes_a_batch: int) -> None:
    batches = [np.repeat(np.arange(classes_a_batch) + (n // 3), 32 // classes_a_batch) for n in range(12)]
    assert bool(rules(labels.judge_order(batches, HERE))) == (classes_a_batch == 1)


def test_imbalance_alone_is_not_taken_for_order() -> None:
    rng = np.random.default_rng(0)
    batches = [(rng.random(16) < 0.01).astype(np.int64) for _ in range(50)]
    assert rules(labels.judge_order(batches, HERE)) == []


def test_where_distance_means_nothing_no_labels_are_accused() -> None:
    generator = torch.Generator().manual_seed(0)
    noise, kinds = torch.rand(800, 20, generator=generator), np.arange(800) % 4
    assert rules(neighbours.judge((noise[:400], kinds[:400]), (noise[400:], kinds[400:]), HERE)) == []


def test_compiled_parts_are_not_compiled_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[object] = []
    monkeypatch.setattr(callback, "Hearing", lambda *parts: heard.append(parts))
    module = data.Classifier(True)
    DataCheck().on_train_batch_start(None, module, None, 0)
    assert len(heard) == 1
    module.net = torch.compile(module.net, backend="eager")
    DataCheck().on_train_batch_start(None, module, None, 0)
    assert len(heard) == 1
