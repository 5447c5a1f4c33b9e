"""What goes wrong with checkpoints is told once, with its cause, and training goes on."""

from __future__ import annotations

import errno
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from checkpointing.folders import flip
from checkpointing.saving import Scored, steps, train
from lightning.pytorch.plugins.io import AsyncCheckpointIO
from monitors.breaking import journal

from lightning_debugkit import Finding, NestedCheckpoint, TrainingAnomaly
from lightning_debugkit.checkpointing import serialization
from lightning_debugkit.checkpointing.verification import DamagedCheckpoint
from lightning_debugkit.checkpoints import Best, Every, Latest
from lightning_debugkit.core.callback import RefusedSetup

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:lightning", "ignore::FutureWarning")
NAN = math.nan


def found(folder: Path, name: str = "debugkit") -> list[tuple[str, str]]:
    return [(finding.rule, str(finding.severity)) for finding in journal(folder, name).findings]


def only(folder: Path, name: str = "debugkit") -> Finding:
    (finding,) = journal(folder, name).findings
    return finding


Fails = Callable[[Path], Exception | None]


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Callable[[Fails], None]:
    """Let writing fail as told by step, half the file written."""
    real = serialization.save_bytes

    def use(fails: Fails) -> None:
        def save(checkpoint: Any, path: Path) -> None:
            error = fails(path)
            if error is not None:
                path.write_bytes(b"half a file")
                raise error
            real(checkpoint, path)

        monkeypatch.setattr(serialization, "save_bytes", save)

    return use


def at(*struck: int, error: Exception) -> Fails:
    return lambda path: error if int(path.name.split("-")[1]) in struck else None


def full() -> Exception:
    return OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        (full(), "Make room in"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "Make room in"),
        (OSError(errno.EROFS, "Read-only file system"), "Let this process write to"),
        (PermissionError(errno.EACCES, "Permission denied"), "Let this process write to"),
        (OSError(errno.EIO, "Input/output error"), "See whether"),
        (TypeError("cannot pickle '_thread.lock' object"), "See what the checkpoint holds that cannot be saved"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_a_save_that_fails_is_told_with_its_cause_and_training_goes_on(
    error: Exception, advice: str, failing: Any, tmp_path: Path
) -> None:
    failing(at(10, error=error))
    trainer = train(tmp_path, NestedCheckpoint())
    assert trainer.state.finished
    finding = only(tmp_path)
    assert (finding.rule, str(finding.severity), finding.where.step) == ("checkpoint-failed", "warning", 10)
    assert finding.message == f"the checkpoint of step 10 was not written: {type(error).__name__}: {error}"
    assert finding.advice.startswith(advice)
    assert steps(tmp_path / "checkpoints") == [15]
    assert not [path for path in (tmp_path / "checkpoints").iterdir() if path.name.startswith(".")]


def test_a_lasting_failure_is_told_once_and_again_after_it_had_passed(failing: Any, tmp_path: Path) -> None:
    failing(at(5, 10, 20, error=full()))
    train(tmp_path, NestedCheckpoint(), max_epochs=4)
    assert [finding.where.step for finding in journal(tmp_path).findings] == [5, 20]
    failures = [e["value"]["step"] for e in journal(tmp_path).of_kind("measure") if e["name"] == "checkpoint-failed"]
    assert failures == [5, 10, 20]


def test_a_save_that_failed_is_owed_at_the_next_boundary(failing: Any, tmp_path: Path) -> None:
    failing(at(4, error=full()))
    train(tmp_path, NestedCheckpoint(rules=[Every(steps=4)]), max_epochs=2)
    assert steps(tmp_path / "checkpoints") == [5, 8]


def test_a_full_disk_costs_what_the_new_file_replaces_and_no_more(failing: Any, tmp_path: Path) -> None:
    struck: list[str] = []

    def once(path: Path) -> Exception | None:
        first = "-00000015-" in path.name and not struck
        struck.extend([path.name] if first else [])
        return full() if first else None

    failing(once)
    train(tmp_path, NestedCheckpoint(rules=[Latest(n=2)]))
    assert struck
    assert found(tmp_path) == []
    assert steps(tmp_path / "checkpoints") == [10, 15]


def test_failures_in_a_row_stop_the_training_if_asked_to(failing: Any, tmp_path: Path) -> None:
    failing(at(5, 15, 20, 25, error=full()))
    with pytest.raises(TrainingAnomaly, match="the checkpoint of step 20 was not written") as caught:
        train(tmp_path, NestedCheckpoint(raise_after=2), max_epochs=9)
    assert found(tmp_path) == [
        ("checkpoint-failed", "warning"),
        ("checkpoint-failed", "warning"),
        ("checkpoint-failed", "error"),
    ]
    assert caught.value.finding.evidence["in_a_row"] == 2
    assert steps(tmp_path / "checkpoints") == [10]


def test_a_hook_of_the_user_that_fails_costs_the_checkpoint_alone(tmp_path: Path) -> None:
    class Fails(Scored):
        def on_save_checkpoint(self, checkpoint: Any) -> None:
            if self.global_step == 10:
                raise KeyError("mine")

    train(tmp_path, NestedCheckpoint(), module=Fails())
    assert "KeyError: 'mine'" in only(tmp_path).message
    assert steps(tmp_path / "checkpoints") == [15]


def test_what_cannot_be_pickled_is_told(tmp_path: Path) -> None:
    class Holds(Scored):
        def on_save_checkpoint(self, checkpoint: Any) -> None:
            checkpoint["mine"] = lambda: None

    train(tmp_path, NestedCheckpoint(), module=Holds())
    assert only(tmp_path).rule == "checkpoint-failed"


def test_a_writer_of_the_users_that_swallows_its_error_is_found_out(tmp_path: Path) -> None:
    """Lightning passes over a PermissionError: its ``best_model_path`` then names what does not exist."""

    class Swallows(pl.plugins.io.TorchCheckpointIO):
        def save_checkpoint(self, checkpoint: Any, path: Any, storage_options: Any = None) -> None:
            """Write nothing."""

    callback = NestedCheckpoint()
    train(tmp_path, callback, plugins=[Swallows()])
    assert "PermissionError" in only(tmp_path).message
    assert (callback.best_model_path, callback.last_model_path) == ("", "")


def test_a_folder_that_is_a_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    train(tmp_path, NestedCheckpoint(tmp_path / "taken"))
    assert found(tmp_path) == [("checkpoint-failed", "warning")]


def test_a_disk_that_the_next_file_does_not_fit_on_is_told_before_it_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1500))
    train(tmp_path, NestedCheckpoint(), max_epochs=1)
    finding = only(tmp_path)
    assert (finding.rule, str(finding.severity)) == ("disk-low", "warning")
    assert finding.message.startswith("1.5 kB are free in ")


# Metrics


def test_a_metric_that_is_never_logged_is_told_with_those_that_are(tmp_path: Path) -> None:
    train(tmp_path, NestedCheckpoint(monitor="val_los", rules=[Every(steps=4)]), max_epochs=4)
    finding = only(tmp_path)
    assert (finding.rule, str(finding.severity), finding.where.step) == ("monitor-missing", "warning", 5)
    assert (
        finding.message == "val_los was not logged, so no file is kept for it so far; logged were train_loss, val_loss"
    )
    assert finding.advice == "Write 'val_loss', if that is what is meant; else log 'val_los'."
    assert steps(tmp_path / "checkpoints") == [4, 8, 12, 16, 20]


@pytest.mark.parametrize(
    ("metric", "options", "epoch"),
    [
        (
            "val_loss",
            {"check_val_every_n_epoch": 3},
            None,
        ),  # comes with the first validation, and no sooner is it missed
        ("train_loss", {"validated": False}, None),
        ("train_loss", {"val_check_interval": 2}, None),  # comes after the validations of its epoch
        ("typo", {"check_val_every_n_epoch": 2}, 1),
        ("typo", {"validated": False}, 0),
        ("train_los", {"validated": False}, 0),
    ],
)
def test_a_metric_is_missed_only_when_all_there_is_was_logged(
    metric: str, options: Any, epoch: int | None, tmp_path: Path
) -> None:
    train(tmp_path, NestedCheckpoint(monitor=metric), **options)
    missed = [(str(finding.severity), finding.where.epoch) for finding in journal(tmp_path).findings]
    # What no other name is like may come in a later validation, until there is none.
    at_end = [] if metric == "train_los" else [("warning", 2)]
    first = "warning" if metric == "train_los" else "info"
    assert missed == ([] if epoch is None else [(first, epoch), *at_end])


def test_a_metric_of_every_other_validation_is_no_fault(tmp_path: Path) -> None:
    train(tmp_path, NestedCheckpoint(monitor="val_loss"), module=Scored([None, 0.5, None, 0.4]), max_epochs=4)
    assert {(finding.rule, str(finding.severity)) for finding in journal(tmp_path).findings} == {
        ("monitor-missing", "info")
    }


@pytest.mark.parametrize(
    ("scores", "told"),
    [
        ([NAN, 0.5, 0.4], [("info", 5)]),  # undefined before anything was learned
        ([0.5, NAN, 0.4], [("warning", 10)]),
        ([0.5, math.inf, 0.4, NAN], [("warning", 10)]),
        ([NAN, NAN, NAN, NAN], [("info", 5), ("warning", 15)]),
        ([NAN, 0.3, NAN], [("info", 5), ("warning", 15)]),
    ],
)
def test_a_metric_that_is_no_number_is_told_by_what_it_was_before(scores: Any, told: Any, tmp_path: Path) -> None:
    train(tmp_path, NestedCheckpoint(monitor="val_loss"), module=Scored(scores), max_epochs=len(scores))
    findings = journal(tmp_path).findings
    assert {finding.rule for finding in findings} == {"monitor-nonfinite"}
    assert [(str(finding.severity), finding.where.step) for finding in findings] == told


@pytest.mark.parametrize(
    ("scores", "of"),
    [
        ([NAN, 0.5, 0.4], ("val_loss is nan: it does not rank", "until then no file is ranked by it.")),
        ([0.5, NAN, 0.4], ("val_loss is nan: it does not rank", "what was ranked before stays.")),
        (
            [NAN, NAN, NAN],
            (
                "val_loss is nan, for the third evaluation in a row: it does not rank",
                "until then no file is ranked by it.",
            ),
        ),
    ],
)
def test_what_is_said_of_a_metric_that_is_no_number_is_so(scores: Any, of: Any, tmp_path: Path) -> None:
    train(tmp_path, NestedCheckpoint(monitor="val_loss"), module=Scored(scores))
    finding = journal(tmp_path).findings[-1]
    assert (finding.message, finding.advice) == (of[0], f"Find out why it is not finite; {of[1]}")


def test_a_validation_that_lacks_the_metric_is_told(tmp_path: Path) -> None:
    """As information: a metric of every other validation is no fault."""
    train(tmp_path, NestedCheckpoint(monitor="val_loss"), module=Scored([0.5, None, 0.4, None]), max_epochs=4)
    finding = only(tmp_path)
    assert (finding.rule, str(finding.severity), finding.where.step) == ("monitor-missing", "info", 10)
    assert finding.message == "val_loss was not logged in this validation, so that no file of it is ranked by val_loss"


def test_a_metric_of_the_training_that_a_validation_lacks_is_not_missed(tmp_path: Path) -> None:
    train(tmp_path, NestedCheckpoint(rules=[Best("train_loss"), Best("val_loss")]), val_check_interval=2)
    assert found(tmp_path) == []


class Steps(pl.LightningModule):
    """Logs its loss in each training step, before the update, by hand or not; and one of validation."""

    def __init__(self, automatic: bool, **log: bool) -> None:
        super().__init__()
        self.automatic_optimization, self.log_options = automatic, log
        self.net = torch.nn.Linear(4, 1)

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        loss = self.net(batch[0]).square().mean()
        self.log("loss", loss, **self.log_options)
        if not self.automatic_optimization:
            optimizer: Any = self.optimizers()
            optimizer.zero_grad()
            self.manual_backward(loss)
            optimizer.step()
        return loss

    def on_train_batch_end(self, *args: Any) -> None:
        self.log("after", self.net.weight.detach().norm())

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_loss", self.net(batch[0]).square().mean())

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.01)


@pytest.mark.parametrize("automatic", [True, False])
@pytest.mark.parametrize(
    ("metric", "log", "told"),
    [
        ("loss", {}, ["loss"]),
        ("loss_step", {"on_step": True, "on_epoch": True}, ["loss_step"]),
        ("loss_epoch", {"on_step": True, "on_epoch": True}, []),
        ("loss", {"on_step": False, "on_epoch": True}, []),
        ("after", {}, []),
        ("val_loss", {}, []),
    ],
)
def test_a_metric_of_the_weights_before_the_update_is_told(
    metric: str, log: Any, told: list[str], automatic: bool, tmp_path: Path
) -> None:
    callback = NestedCheckpoint(rules=[Every(steps=1), Best(metric)])
    train(tmp_path, callback, module=Steps(automatic, **log), max_epochs=2)
    findings = journal(tmp_path).findings
    assert [(f.rule, str(f.severity), f.evidence["metric"]) for f in findings] == [
        ("monitor-before-update", "info", name) for name in told
    ]


def test_each_metric_is_told_by_itself(tmp_path: Path) -> None:
    train(tmp_path, NestedCheckpoint(rules=[Best("one"), Best("two"), Latest()]))
    told = [(str(finding.severity), finding.evidence["metric"]) for finding in journal(tmp_path).findings]
    assert told == [("info", "one"), ("info", "two"), ("warning", "one"), ("warning", "two")]


def test_what_was_told_is_not_told_again_after_a_resume(tmp_path: Path) -> None:
    callback = {"monitor": "val_loss"}
    train(tmp_path, NestedCheckpoint(**callback), module=Scored([0.1, NAN]), max_epochs=2)
    train(tmp_path, NestedCheckpoint(**callback), module=Scored([NAN, NAN]), max_epochs=4, ckpt_path="last")
    assert found(tmp_path) == [("monitor-nonfinite", "warning")]
    assert found(tmp_path, "debugkit-1") == []


# Damage and repair


def newest(folder: Path) -> Path:
    return max((folder / "checkpoints").glob("step-*.ckpt"))


@pytest.mark.parametrize("how", ["flip", "cut", "empty"])
def test_a_damaged_newest_file_falls_back_to_the_one_before_it_loudly(
    how: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    train(tmp_path, NestedCheckpoint(rules=[Latest(n=3)]))
    damaged = newest(tmp_path)
    if how == "flip":
        flip(damaged, 0.9)
    else:
        damaged.write_bytes(b"" if how == "empty" else damaged.read_bytes()[:-1])
    trainer = train(tmp_path, NestedCheckpoint(rules=[Latest(n=3)]), ckpt_path="last", max_epochs=4)
    assert trainer.global_step == 20
    assert "is passed over" in caplog.text
    repaired, passed = journal(tmp_path, "debugkit-1").findings
    assert (repaired.rule, passed.rule) == ("checkpoint-repaired", "checkpoint-repaired")
    assert str(repaired.severity) == str(passed.severity) == "warning"
    assert f"renamed a damaged file to {damaged.name}.damaged" in repaired.message
    assert "resumed from step-00000010" in passed.message
    assert damaged.name in passed.message
    assert (tmp_path / "checkpoints" / f"{damaged.name}.damaged").exists()
    assert steps(tmp_path / "checkpoints") == [10, 15, 20]


def test_if_no_file_is_sound_the_fit_does_not_begin_anew(tmp_path: Path) -> None:
    train(tmp_path, NestedCheckpoint(rules=[Latest(n=2)]))
    for path in (tmp_path / "checkpoints").glob("step-*.ckpt"):
        flip(path, 0.9)
    with pytest.raises(DamagedCheckpoint, match="holds 2 checkpoints and none is sound"):
        train(tmp_path, NestedCheckpoint(rules=[Latest(n=2)]), ckpt_path="last")


def test_a_damaged_file_asked_for_by_name_is_not_loaded(tmp_path: Path) -> None:
    callback = NestedCheckpoint()
    trainer = train(tmp_path, callback)
    flip(Path(callback.last_model_path), 0.9)
    with pytest.raises(DamagedCheckpoint, match="damaged"):
        train(tmp_path, NestedCheckpoint(), ckpt_path=callback.last_model_path)
    with pytest.raises(DamagedCheckpoint):
        trainer.validate(Scored(), torch.utils.data.DataLoader(torch.zeros(2, 4)), ckpt_path="best")


def test_leavings_of_a_killed_run_are_removed_and_told(tmp_path: Path) -> None:
    train(tmp_path, NestedCheckpoint())
    draft = tmp_path / "checkpoints" / ".step-00000099-0123abcd.ckpt.89abcdef.tmp"
    draft.mkdir()
    (draft / "step-00000099-0123abcd.ckpt").write_bytes(b"x" * 2000)
    train(tmp_path, NestedCheckpoint(), ckpt_path="last", max_epochs=4)
    finding = only(tmp_path, "debugkit-1")
    assert str(finding.severity) == "info"
    assert "removed 1 unfinished file of a killed run (2 kB)" in finding.message
    assert not draft.exists()


def test_a_whole_file_that_was_not_committed_is_resumed_and_adopted(tmp_path: Path) -> None:
    train(tmp_path, NestedCheckpoint(rules=[Latest(n=2)]))
    newest(tmp_path).with_name(newest(tmp_path).name + ".json").unlink()
    trainer = train(tmp_path, NestedCheckpoint(), ckpt_path="last", max_epochs=4)
    assert trainer.global_step == 20
    assert steps(tmp_path / "checkpoints") == [15, 20]
    assert "gave a record to" in only(tmp_path, "debugkit-1").message


# What cannot be


def test_a_writer_that_returns_before_it_has_written_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RefusedSetup) as caught:
        train(tmp_path, NestedCheckpoint(), plugins=[AsyncCheckpointIO()])
    assert str(caught.value) == (
        "NestedCheckpoint needs a CheckpointIO that has written when it returns, got AsyncCheckpointIO; "
        "use NestedCheckpoint(async_save=True) without it."
    )


def test_a_strategy_that_writes_in_its_own_way_is_refused(tmp_path: Path) -> None:
    class Sharded(pl.strategies.SingleDeviceStrategy):
        def save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
            """As FSDP and DeepSpeed do: every rank its own part."""

    with pytest.raises(RefusedSetup) as caught:
        train(tmp_path, NestedCheckpoint(), strategy=Sharded("cpu"), accelerator="auto", devices="auto")
    assert str(caught.value) == (
        "NestedCheckpoint needs a strategy whose checkpoint the first rank writes, such as DDP, or all ranks in "
        "shards, as FSDP and ModelParallelStrategy do, got Sharded; use ModelCheckpoint with it."
    )


def test_a_fault_of_the_kit_in_setup_is_said_aloud(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError("a fault of ours")

    monkeypatch.setattr("lightning_debugkit.checkpointing.callback.CheckpointSession", fails)
    trainer = train(tmp_path, NestedCheckpoint())
    assert trainer.state.finished
    assert "saves nothing in this fit" in caplog.text
