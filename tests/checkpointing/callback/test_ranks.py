"""On two ranks the first one decides and writes, all follow, and nobody waits for ever."""

from __future__ import annotations

import errno
import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from checkpointing.saving import Scored, step_of, steps
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.strategies import DDPStrategy
from torch.utils.data import DataLoader, TensorDataset

from lightning_debugkit import NestedCheckpoint, read_journal
from lightning_debugkit.checkpointing import serialization
from lightning_debugkit.checkpoints import Best, Every, Latest

pytestmark = [
    pytest.mark.timeout(120),
    pytest.mark.usefixtures("no_process_left"),
    pytest.mark.filterwarnings("ignore"),
]


class Reports(Callback):
    """Leaves what each rank reads off the checkpoint callback in a file of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        callback: Any = trainer.checkpoint_callback
        read = {
            "best": step_of(callback.best_model_path) if callback.best_model_path else None,
            "last": step_of(callback.last_model_path) if callback.last_model_path else None,
            "best_k": {step_of(path): round(float(score), 3) for path, score in callback.best_k_models.items()},
            "step": trainer.global_step,
        }
        (self.folder / f"rank-{trainer.global_rank}.json").write_text(json.dumps(read))


class Differ(Scored):
    """Each rank has scores of its own, as without ``sync_dist``."""

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        if not self.trainer.sanity_checking:
            scores = [[0.3, 0.2, 0.1, 0.4], [0.1, 0.2, 0.3, 0.0]][self.global_rank]
            self.log("val_loss", torch.tensor(scores[self.count]), sync_dist=False)
            self.count += 1


def fit(folder: Path, callback: NestedCheckpoint, *callbacks: Callback, **options: Any) -> None:
    folder.mkdir(exist_ok=True)
    ckpt_path = options.pop("ckpt_path", None)
    module = options.pop("module", None) or Differ()
    strategy = DDPStrategy(start_method="fork", process_group_backend="gloo", timeout=timedelta(seconds=30))
    usual: dict[str, Any] = {
        "max_epochs": 4,
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    trainer = pl.Trainer(
        default_root_dir=folder, accelerator="cpu", devices=2, strategy=strategy,
        callbacks=[*callbacks, callback, Reports(folder)], **{**usual, **options},
    )  # fmt: skip
    data = DataLoader(TensorDataset(torch.randn(20, 4)), batch_size=2)
    trainer.fit(module, data, DataLoader(TensorDataset(torch.randn(2, 4))), ckpt_path=ckpt_path)


def reports(folder: Path) -> list[dict[str, Any]]:
    read = [json.loads((folder / f"rank-{rank}.json").read_text()) for rank in (0, 1)]
    journal = read_journal(folder / "debugkit")
    assert not journal.of_kind("trouble"), journal.of_kind("trouble")
    return read


@pytest.mark.parametrize("beside", [False, True])
def test_the_first_rank_decides_though_metrics_differ(beside: bool, tmp_path: Path) -> None:
    fit(tmp_path, NestedCheckpoint(rules=[Best("val_loss", k=2), Latest()], async_save=beside))
    one, two = reports(tmp_path)
    assert one == two == {"best": 15, "last": 20, "best_k": {"15": 0.1, "10": 0.2}, "step": 20}
    assert steps(tmp_path / "checkpoints") == [10, 15, 20]
    assert read_journal(tmp_path / "debugkit").findings == []


def test_step_rules_need_no_talk_between_ranks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ranks meet over a save, at validations and ends of epochs, and nowhere else."""

    class Counts(Callback):
        def on_train_start(self, trainer: pl.Trainer, *_: Any) -> None:
            self.calls = 0
            real = trainer.strategy.broadcast

            def broadcast(*args: Any, **kwargs: Any) -> Any:
                self.calls += 1
                return real(*args, **kwargs)

            trainer.strategy.broadcast = broadcast

        def on_train_batch_start(self, trainer: pl.Trainer, module: Any, batch: Any, batch_idx: int) -> None:
            if batch_idx == 0:
                self.calls = 0
            if batch_idx in (2, 4):
                path = trainer.default_root_dir + f"/calls-{batch_idx}-{trainer.global_rank}"
                Path(path).write_text(str(self.calls))

    fit(tmp_path, NestedCheckpoint(rules=[Every(steps=4)]), Counts(), max_epochs=1)
    assert steps(tmp_path / "checkpoints") == [4]
    assert [(tmp_path / f"calls-2-{rank}").read_text() for rank in (0, 1)] == ["0", "0"]
    assert [(tmp_path / f"calls-4-{rank}").read_text() for rank in (0, 1)] == ["2", "2"]


def test_time_is_that_of_the_first_rank(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]

    class Clocks(Callback):
        """The second rank's clock runs ten times as fast."""

        def on_train_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
            now[0] += 600 if trainer.global_rank == 0 else 6000

    monkeypatch.setattr("lightning_debugkit.checkpointing.save_times.time.monotonic", lambda: now[0])
    fit(tmp_path, NestedCheckpoint(rules=[Every(hours=1)]), Clocks())
    one, two = reports(tmp_path)
    assert one == two
    assert steps(tmp_path / "checkpoints") == [6, 12, 18]


def test_both_ranks_go_on_from_the_same_file(tmp_path: Path) -> None:
    fit(tmp_path, NestedCheckpoint(), max_epochs=2)
    (tmp_path / "debugkit").rename(tmp_path / "first")
    fit(tmp_path, NestedCheckpoint(), max_epochs=4, ckpt_path="last")
    one, two = reports(tmp_path)
    assert one == two
    assert (one["step"], steps(tmp_path / "checkpoints")) == (20, [10, 20])


@pytest.mark.parametrize("raise_after", [None, 2])
def test_a_save_that_fails_on_the_first_rank_leaves_nobody_waiting(
    raise_after: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(serialization, "save_bytes", full)
    if raise_after is None:
        fit(tmp_path, NestedCheckpoint())
        one, two = reports(tmp_path)
        assert one == two == {"best": None, "last": None, "best_k": {}, "step": 20}
    else:
        with pytest.raises(Exception, match="the checkpoint of step 10 was not written"):
            fit(tmp_path, NestedCheckpoint(raise_after=raise_after))
        assert {e["status"] for e in read_journal(tmp_path / "debugkit").of_kind("end")} <= {"exception"}
    found = read_journal(tmp_path / "debugkit").findings
    assert {(finding.rule, finding.where.rank) for finding in found} == {("checkpoint-failed", 0)}


@pytest.mark.parametrize(
    "where",
    ["session.CheckpointSession._plan", "after_save.model_checkpoint_view", "checkpoint_findings.Monitors.judge"],
    ids=lambda name: name.split(".")[0],
)
def test_a_fault_of_the_kit_on_the_first_rank_leaves_nobody_waiting(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any) -> None:
        raise ZeroDivisionError("a fault of ours")

    class Later(Callback):
        def on_train_start(self, *_: Any) -> None:
            monkeypatch.setattr(f"lightning_debugkit.checkpointing.{where}", fails)

    fit(tmp_path, NestedCheckpoint(monitor="val_loss"), Later(), max_epochs=2)
    told = [json.loads((tmp_path / f"rank-{rank}.json").read_text())["step"] for rank in (0, 1)]
    assert told == [10, 10]
    troubles = read_journal(tmp_path / "debugkit").of_kind("trouble")
    assert troubles
    assert {event["error"] for event in troubles} == {"ZeroDivisionError: a fault of ours"}
