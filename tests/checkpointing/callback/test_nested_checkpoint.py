"""What is saved when, what is kept, and what the callback says of it: one process, saved while training waits."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
from checkpointing.saving import Scored, best_k, step_of, steps, train
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger, Logger
from lightning.pytorch.loggers.utilities import _scan_checkpoints
from monitors.breaking import journal, warned
from packaging.version import Version

from lightning_debugkit import NestedCheckpoint
from lightning_debugkit.checkpointing.records import read_records
from lightning_debugkit.checkpoints import Best, Every, Latest

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:lightning", "ignore::FutureWarning")
NAN, INF = math.nan, math.inf


def saved(folder: Path) -> list[int]:
    """The steps that were written, in order, kept or not."""
    events = journal(folder).of_kind("measure")
    return [e["value"]["step"] for e in events if e["name"] == "checkpoint" and e["value"]["seconds"]]


@pytest.mark.parametrize(
    ("callback", "options", "written", "left"),
    [
        (NestedCheckpoint(), {}, [5, 10, 15], [15]),
        (NestedCheckpoint(monitor="val_loss"), {}, [5, 10, 15], [15]),
        (NestedCheckpoint(monitor="val_loss", mode="max"), {}, [5, 10, 15], [5, 15]),
        (NestedCheckpoint(rules=[Every(steps=4)]), {}, [4, 8, 12], [4, 8, 12]),
        (NestedCheckpoint(rules=[Every(steps=4, keep=2)]), {}, [4, 8, 12], [8, 12]),
        (NestedCheckpoint(rules=[Every(epochs=2)]), {}, [10], [10]),
        (NestedCheckpoint(rules=[Every(steps=5)]), {}, [5, 10, 15], [5, 10, 15]),
        (NestedCheckpoint(rules=[Latest(every_n_steps=4)]), {}, [4, 8, 12, 15], [15]),
        (NestedCheckpoint(rules=[Latest(n=2, every_n_steps=4)]), {"max_steps": 9, "max_epochs": -1}, [4, 8, 9], [8, 9]),
        (NestedCheckpoint(rules=["Every(steps=6)", "Latest()"]), {}, [5, 6, 10, 12, 15], [6, 12, 15]),
        (NestedCheckpoint(), {"validated": False}, [5, 10, 15], [15]),
        (NestedCheckpoint(), {"val_check_interval": 2, "max_epochs": 1}, [2, 4, 5], [5]),
        (NestedCheckpoint(), {"check_val_every_n_epoch": 2, "max_epochs": 2}, [5, 10], [10]),
        (NestedCheckpoint(), {"limit_train_batches": 3}, [3, 6, 9], [9]),
        (NestedCheckpoint(rules=[Every(steps=2)]), {"accumulate_grad_batches": 2}, [2, 4, 6, 8], [2, 4, 6, 8]),
        (NestedCheckpoint(), {"max_steps": 7, "max_epochs": -1}, [5, 7], [7]),
        (NestedCheckpoint(rules=[Every(steps=100)]), {}, [], []),
        (NestedCheckpoint(), {"fast_dev_run": True}, [], []),
    ],
)
def test_files_are_written_and_kept(
    callback: NestedCheckpoint, options: Any, written: list[int], left: list[int], tmp_path: Path
) -> None:
    train(tmp_path, callback, **options)
    assert saved(tmp_path) == written
    assert steps(tmp_path / "checkpoints") == left
    assert warned(journal(tmp_path)) == []


def test_time_is_a_reason_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])

    class Slow(Callback):
        def on_train_batch_start(self, *_: Any) -> None:
            now[0] += 600

    train(tmp_path, Slow(), NestedCheckpoint(rules=[Every(hours=0.5)]))
    assert steps(tmp_path / "checkpoints") == [3, 6, 9, 12, 15]
    assert [record.moment.seconds for record in read_records(tmp_path / "checkpoints")] == [
        1800,
        3600,
        5400,
        7200,
        9000,
    ]
    path = next((tmp_path / "checkpoints").glob("step-00000012*.ckpt"))
    train(tmp_path, Slow(), NestedCheckpoint(rules=[Every(hours=0.5)]), ckpt_path=path, max_epochs=4)
    assert steps(tmp_path / "checkpoints") == [3, 6, 9, 12, 15, 15, 18]


SCORES = [0.5, 0.3, NAN, 0.3, -INF, 0.4]


@pytest.mark.parametrize(
    ("k", "mode", "expected"),
    [
        (1, "min", {10: 0.3}),
        (2, "min", {10: 0.3, 20: 0.3}),
        (3, "min", {10: 0.3, 20: 0.3, 30: 0.4}),
        (1, "max", {5: 0.5}),
    ],
)
def test_the_best_are_kept_whatever_is_not_a_number(k: int, mode: Any, expected: Any, tmp_path: Path) -> None:
    callback = NestedCheckpoint(rules=[Best("val_loss", k=k, mode=mode)])
    train(tmp_path, callback, module=Scored(SCORES), max_epochs=6)
    assert best_k(callback) == expected
    assert steps(tmp_path / "checkpoints") == sorted(expected)
    first = next(iter(expected))
    assert step_of(callback.best_model_path) == first
    assert callback.best_model_score == pytest.approx(expected[first])
    assert step_of(callback.kth_best_model_path) == list(expected)[-1]


def test_a_run_of_nothing_but_nan_still_has_its_latest(tmp_path: Path) -> None:
    """Lightning's own keeps the first two and then never saves again."""
    callback = NestedCheckpoint(monitor="val_loss", top_k=2)
    train(tmp_path, callback, module=Scored([NAN] * 4), max_epochs=4)
    assert steps(tmp_path / "checkpoints") == [20]
    assert (callback.best_model_path, callback.best_k_models, callback.best_model_score) == ("", {}, None)
    assert step_of(callback.last_model_path) == 20


def test_the_latest_is_the_latest_after_epochs_without_progress(tmp_path: Path) -> None:
    """Lightning's ``save_last`` stays at the best, the first epoch of six."""
    ours, stock = (
        NestedCheckpoint(monitor="val_loss"),
        ModelCheckpoint(tmp_path / "stock", monitor="val_loss", save_last=True),
    )
    train(tmp_path, ours, stock, module=Scored([0.1, 0.2, 0.3, 0.4, 0.5, 0.6]), max_epochs=6)
    link = tmp_path / "checkpoints" / "last.ckpt"
    assert torch.load(link, weights_only=True)["global_step"] == step_of(ours.last_model_path) == 30
    assert torch.load(tmp_path / "checkpoints" / "best.ckpt", weights_only=True)["global_step"] == 5
    if Version(lightning.__version__) >= Version("2.6"):
        assert torch.load(stock.last_model_path, weights_only=True)["global_step"] == 5


def test_the_nested_form_keeps_the_best_between_rare_ones(tmp_path: Path) -> None:
    scores = [5.0, 1.0, 3.0, 4.0, 2.0, 9.0, 8.0, 7.0]
    rules = [Every(steps=20), Best("val_loss", within=Every(steps=20)), Latest()]
    train(tmp_path, NestedCheckpoint(rules=rules), module=Scored(scores), max_epochs=8)
    assert steps(tmp_path / "checkpoints") == [10, 20, 25, 40]


def test_several_metrics_are_ranked_each_by_itself(tmp_path: Path) -> None:
    class Two(Scored):
        def validation_step(self, batch: Any, batch_idx: int) -> None:
            super().validation_step(batch, batch_idx)
            self.log("acc", torch.tensor(float([1, 5, 2, 3][(self.count - 1) % 4])))

    rules = [Best("val_loss"), Best("acc", k=2, mode="max")]
    callback = NestedCheckpoint(rules=rules)
    train(tmp_path, callback, module=Two([0.1, 0.4, 0.2, 0.3]), max_epochs=4)
    assert steps(tmp_path / "checkpoints") == [5, 10, 20]
    assert best_k(callback) == {5: 0.1}, "loggers are told of the first"


def test_a_stale_metric_is_not_taken_for_that_of_later_weights(tmp_path: Path) -> None:
    """Files between validations have no val_loss, though the Trainer still holds the old value."""
    train(tmp_path, NestedCheckpoint(rules=[Every(steps=4)]), module=Scored([0.1, 0.2, 0.3]))
    assert [sorted(record.metrics) for record in read_records(tmp_path / "checkpoints")] == [[], [], []]
    train(tmp_path / "b", NestedCheckpoint(rules=[Every(steps=5)]), module=Scored([0.1, 0.2, 0.3]))
    kept = [dict(record.metrics) for record in read_records(tmp_path / "b" / "checkpoints")]
    assert [round(metrics["val_loss"], 4) for metrics in kept] == [0.1, 0.2, 0.3]
    assert all("train_loss" in metrics for metrics in kept)


def test_a_validation_in_mid_epoch_is_judged_at_its_own_step(tmp_path: Path) -> None:
    callback = NestedCheckpoint(monitor="val_loss", top_k=9)
    train(tmp_path, callback, module=Scored([0.4, 0.3, 0.2, 0.1]), val_check_interval=2, max_epochs=2)
    assert best_k(callback) == {9: 0.1, 7: 0.2, 4: 0.3, 2: 0.4}


def test_a_metric_of_the_epoch_itself_ranks(tmp_path: Path) -> None:
    callback = NestedCheckpoint(monitor="train_loss", top_k=3)
    train(tmp_path, callback, validated=False)
    assert sorted(best_k(callback)) == [5, 10, 15]


def test_a_metric_logged_at_the_end_of_the_epoch_joins_the_file_of_its_validation(tmp_path: Path) -> None:
    """Validation in mid-epoch and end of epoch at the same step: one file, both metrics."""

    class Late(Scored):
        def on_train_epoch_end(self) -> None:
            self.log("late", torch.tensor(2.0))

    train(tmp_path, NestedCheckpoint(rules=[Best("late"), Latest()]), module=Late([0.1]), max_epochs=1)
    (record,) = read_records(tmp_path / "checkpoints")
    assert {"late", "val_loss", "train_loss"} <= set(record.metrics)
    assert saved(tmp_path) == [5]


@pytest.mark.parametrize("options", [{"max_epochs": 2}, {"max_steps": 7, "max_epochs": -1}])
def test_a_fit_goes_on_from_the_latest(options: Any, tmp_path: Path) -> None:
    train(tmp_path, NestedCheckpoint(), **options)
    callback = NestedCheckpoint()
    trainer = train(tmp_path, callback, ckpt_path="last", max_epochs=4)
    assert (trainer.global_step, trainer.current_epoch) == (20, 4)
    assert step_of(callback.last_model_path) == 20
    resumed = options.get("max_steps", 10)
    assert steps(tmp_path / "checkpoints") == [resumed, 20]
    (record,) = [record for record in read_records(tmp_path / "checkpoints") if record.step == 20]
    assert [step for _, step in record.lineage] == [resumed]
    train(tmp_path, NestedCheckpoint(), ckpt_path="last", max_epochs=5)
    assert steps(tmp_path / "checkpoints") == [20, 25], "the file resumed from is released by the next fit"


def test_best_and_last_work_in_a_new_process_when_the_folder_is_given(tmp_path: Path) -> None:
    folder = tmp_path / "kept"
    train(tmp_path, NestedCheckpoint(folder, monitor="val_loss"), module=Scored([0.1, 0.2, 0.3]))
    again = NestedCheckpoint(folder, monitor="val_loss")
    assert step_of(again.best_model_path) == 5
    trainer = train(tmp_path, again, ckpt_path="best", max_epochs=2)
    assert trainer.global_step == 10
    assert again.last_model_path.endswith(".ckpt")
    assert step_of(again.last_model_path) == 10


def test_without_a_checkpoint_last_begins_anew(tmp_path: Path) -> None:
    trainer = train(tmp_path, NestedCheckpoint(), ckpt_path="last", max_epochs=1)
    assert trainer.global_step == 5


def test_top_k_is_rebuilt_from_the_records_when_one_goes_back(tmp_path: Path) -> None:
    """The branch that is left stays on disk untouched, and is out of the ranking; the finding says so."""
    rules = [Best("val_loss", k=2), Every(steps=5, keep=9)]
    train(tmp_path, NestedCheckpoint(rules=rules), module=Scored([0.5, 0.4, 0.1, 0.2]), max_epochs=4)
    old = steps(tmp_path / "checkpoints")
    assert old == [5, 10, 15, 20]
    path = next((tmp_path / "checkpoints").glob("step-00000010*.ckpt"))
    callback = NestedCheckpoint(rules=[Best("val_loss", k=2), Latest()])
    train(tmp_path, callback, module=Scored([0.3, 0.6]), max_epochs=4, ckpt_path=path)
    assert best_k(callback) == {15: 0.3, 10: 0.4}
    assert steps(tmp_path / "checkpoints") == [10, 15, 15, 20, 20]
    (finding,) = journal(tmp_path, "debugkit-1").findings
    assert (finding.rule, str(finding.severity)) == ("checkpoint-repaired", "info")
    assert "2 files up to step 20 of a branch that is left behind stay as they are" in finding.message


def test_a_changed_folder_begins_its_own_list_and_leaves_the_old_one(tmp_path: Path) -> None:
    first = NestedCheckpoint(tmp_path / "one", monitor="val_loss", top_k=2)
    train(tmp_path, first, module=Scored([0.5, 0.4]), max_epochs=2)
    callback = NestedCheckpoint(tmp_path / "two", monitor="val_loss", top_k=2)
    train(tmp_path, callback, module=Scored([0.6, 0.7]), max_epochs=4, ckpt_path=first.last_model_path)
    assert steps(tmp_path / "one") == [5, 10]
    assert (steps(tmp_path / "two"), best_k(callback)) == ([15, 20], {15: 0.6, 20: 0.7})


def test_a_checkpoint_of_another_callback_can_be_resumed(tmp_path: Path) -> None:
    stock = ModelCheckpoint(tmp_path / "stock")
    train(tmp_path, stock, max_epochs=1)
    trainer = train(tmp_path, NestedCheckpoint(tmp_path / "ours"), ckpt_path=stock.best_model_path, max_epochs=2)
    assert (trainer.global_step, steps(tmp_path / "ours")) == (10, [10])


def test_several_in_one_trainer_do_not_mix_even_in_one_folder(tmp_path: Path) -> None:
    one, two = NestedCheckpoint(monitor="val_loss"), NestedCheckpoint(rules=[Every(steps=6)])
    stock = ModelCheckpoint(tmp_path / "checkpoints", save_top_k=-1)
    train(tmp_path, one, two, stock, module=Scored([0.1, 0.2, 0.3]))
    assert sorted(steps(tmp_path / "checkpoints")) == [5, 6, 12, 15]
    assert len(list((tmp_path / "checkpoints").glob("epoch=*.ckpt"))) == 3
    assert (step_of(one.best_model_path), step_of(two.best_model_path)) == (5, 12)


def test_weights_only_files_hold_weights_and_their_manifest(tmp_path: Path) -> None:
    train(tmp_path, NestedCheckpoint(save_weights_only=True), max_epochs=1)
    (path,) = (tmp_path / "checkpoints").glob("step-*.ckpt")
    checkpoint = torch.load(path, weights_only=True)
    assert "optimizer_states" not in checkpoint
    assert checkpoint["debugkit-manifest"]["checkpoint"]["step"] == 5
    assert Scored.load_from_checkpoint(path).net.weight.shape == (1, 4)


class Witness(Logger):
    """Notes what loggers read, at the moment they are called."""

    name = "witness"
    version = 0

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder, self.seen = folder, []

    @property
    def save_dir(self) -> str:
        return str(self.folder)

    def log_metrics(self, *_: Any, **__: Any) -> None: ...

    def log_hyperparams(self, *_: Any, **__: Any) -> None: ...

    def after_save_checkpoint(self, checkpoint_callback: Any) -> None:
        assert Path(checkpoint_callback.last_model_path).exists()
        assert Path(checkpoint_callback.best_model_path).exists()
        best = {step_of(path): float(score) for path, score in checkpoint_callback.best_k_models.items()}
        self.seen.append(
            (
                step_of(checkpoint_callback.last_model_path),
                step_of(checkpoint_callback.best_model_path),
                sorted(best),
                round(float(checkpoint_callback.current_score), 3),
                checkpoint_callback.save_top_k,
            )
        )


def test_loggers_read_what_is_true_and_their_folder_is_used(tmp_path: Path) -> None:
    witness = Witness(tmp_path)
    train(tmp_path, NestedCheckpoint(monitor="val_loss", top_k=2), module=Scored([0.3, 0.1, 0.2]), logger=witness)
    assert witness.seen == [(5, 5, [5], 0.3, 2), (10, 10, [5, 10], 0.1, 2), (15, 10, [10, 15], 0.2, 2)]
    assert steps(tmp_path / "witness" / "version_0" / "checkpoints") == [10, 15]


def test_lightnings_own_scan_for_loggers_finds_the_files(tmp_path: Path) -> None:
    """What WandbLogger and MLFlowLogger upload."""
    callback = NestedCheckpoint(monitor="val_loss", top_k=2)
    train(tmp_path, callback, module=Scored([0.3, 0.1, 0.2, 0.4]), max_epochs=4)
    found = {step_of(path): (round(float(score), 4), tag) for _, path, score, tag in _scan_checkpoints(callback, {})}
    assert found == {10: (0.1, "best_k"), 15: (0.2, "best_k"), 20: (0.4, "latest")}


def test_the_folder_of_a_logger_is_that_of_model_checkpoint(tmp_path: Path) -> None:
    ours, stock = NestedCheckpoint(), ModelCheckpoint()
    train(tmp_path, ours, stock, logger=CSVLogger(tmp_path, name="runs", version="a"), max_epochs=1)
    assert ours.dirpath == stock.dirpath


def test_early_stopping_has_its_last_state_saved(tmp_path: Path) -> None:
    stop = EarlyStopping("val_loss", patience=2)
    trainer = train(
        tmp_path, stop, NestedCheckpoint(rules=[Latest(every_n_steps=100)]), module=Scored([0.1] * 9), max_epochs=9
    )
    assert trainer.global_step < 45
    assert steps(tmp_path / "checkpoints") == [trainer.global_step]


def test_manual_optimization_of_several_optimizers_passes_no_multiple(tmp_path: Path) -> None:
    class Manual(Scored):
        def __init__(self) -> None:
            super().__init__()
            self.automatic_optimization = False

        def training_step(self, batch: Any, batch_idx: int) -> None:
            for optimizer in self.optimizers():
                optimizer.zero_grad()
                self.manual_backward(self.net(batch[0]).square().mean())
                optimizer.step()

        def configure_optimizers(self) -> Any:
            return [torch.optim.SGD(self.parameters(), lr=0.01) for _ in range(2)]

    train(tmp_path, NestedCheckpoint(rules=[Every(steps=5)]), module=Manual())
    assert steps(tmp_path / "checkpoints") == [6, 10, 16, 20, 26, 30]


def test_the_training_is_not_changed(tmp_path: Path) -> None:
    alone, watched = Scored(), Scored()
    watched.load_state_dict(alone.state_dict())
    train(tmp_path / "alone", module=alone, enable_checkpointing=False)
    train(tmp_path / "watched", NestedCheckpoint(monitor="val_loss", rules=[Every(steps=2), Latest()]), module=watched)
    assert torch.equal(alone.net.weight, watched.net.weight)


@pytest.mark.parametrize("rules", [[Every(steps=10)], [Best("val_loss"), Latest()]], ids=str)
def test_an_exception_in_a_validation_leaves_the_step_before_it(rules: Any, tmp_path: Path) -> None:
    """The save of a step waits for its validation; if that breaks, it is made all the same."""

    class Breaks(Scored):
        def validation_step(self, batch: Any, batch_idx: int) -> None:
            if not self.trainer.sanity_checking and self.global_step == 10:
                raise ZeroDivisionError("of the user's")

    with pytest.raises(ZeroDivisionError):
        train(tmp_path, NestedCheckpoint(rules=rules), module=Breaks())
    assert steps(tmp_path / "checkpoints") == [10]
    assert journal(tmp_path).of_kind("end")[0]["status"] == "exception"
    trainer = train(tmp_path, NestedCheckpoint(), ckpt_path="last")
    assert trainer.global_step == 15


@pytest.mark.parametrize("chosen", [False, True])
def test_the_state_at_an_exception_is_saved_if_asked_for(chosen: bool, tmp_path: Path) -> None:
    class Breaks(Scored):
        def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
            if self.global_step == 7:
                raise KeyboardInterrupt

    with pytest.raises(SystemExit):
        train(tmp_path, NestedCheckpoint(save_on_exception=chosen), module=Breaks())
    assert steps(tmp_path / "checkpoints") == ([7] if chosen else [5])
    trainer = train(tmp_path, NestedCheckpoint(), ckpt_path="last")
    assert trainer.global_step == 15


def test_the_state_at_an_exception_stays_though_no_rule_asks_for_it(tmp_path: Path) -> None:
    class Breaks(Scored):
        def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
            if self.global_step == 7:
                raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        train(tmp_path, NestedCheckpoint(rules=[Every(steps=5)], save_on_exception=True), module=Breaks())
    assert steps(tmp_path / "checkpoints") == [5, 7]
    train(tmp_path, NestedCheckpoint(rules=[Every(steps=5)]), ckpt_path="last")
    assert steps(tmp_path / "checkpoints") == [5, 7, 10, 15], "the second stays as the one resumed from"
    train(tmp_path, NestedCheckpoint(rules=[Every(steps=5)]), ckpt_path="last", max_epochs=4)
    assert steps(tmp_path / "checkpoints") == [5, 10, 15, 20]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            {"dirpath": "nowhere://bucket/x"},
            "NestedCheckpoint needs a package for dirpath='nowhere://bucket/x': Protocol not known: nowhere",
        ),
        ({"dirpath": 3}, "NestedCheckpoint needs dirpath as text or None, got 3; None takes the log folder."),
        ({"rules": []}, "NestedCheckpoint needs rules as a list of Every, Best and Latest, got []; "),
        ({"rules": "Latest()"}, "NestedCheckpoint needs rules as a list of Every, Best and Latest, got 'Latest()'; "),
        ({"rules": ["Newest()"]}, "read_rules needs calls of Every, Best and Latest, got 'Newest()'; "),
        ({"monitor": ""}, "NestedCheckpoint needs monitor as the name of a metric, got ''; 'val_loss' is one."),
        ({"mode": "up"}, "NestedCheckpoint needs mode 'min' or 'max', got 'up'; 'min' suits a loss."),
        ({"top_k": 0}, "NestedCheckpoint needs top_k >= 1, got 0; Every(...) among the rules keeps all."),
        ({"top_k": -1}, "NestedCheckpoint needs top_k >= 1, got -1; Every(...) among the rules keeps all."),
        ({"raise_after": 0}, "NestedCheckpoint needs raise_after >= 1 or None, got 0; 3 is a good start."),
        ({"fsync": 1}, "NestedCheckpoint needs fsync True or False, got 1; see its documentation."),
    ],
)
def test_an_argument_that_cannot_be_is_told_at_once(arguments: Any, said: str) -> None:
    with pytest.raises(ValueError) as caught:
        NestedCheckpoint(**arguments)
    assert str(caught.value).startswith(said)
