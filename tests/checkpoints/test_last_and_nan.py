"""The last file is the latest, the best is one with a number: where Lightning's own callback does otherwise."""

from __future__ import annotations

import json
import math
import os
import random
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from callbacks.breaking import journal, warned
from checkpoints.marked import Marked, Resumed, batches, kept, step_of, train
from lightning.pytorch.cli import LightningCLI
from lightning.pytorch.loggers import Logger
from torchmetrics import MeanMetric

from lightning_debugkit import NestedCheckpoint
from lightning_debugkit.checkpoints import Best, Every, Latest

pytestmark = [
    pytest.mark.usefixtures("one_thread", "no_report"),
    pytest.mark.filterwarnings("ignore::UserWarning:lightning", "ignore::FutureWarning"),
]
NAN, INF = math.nan, math.inf
Scores = Sequence[float | None]
STEPS = 2  # in an epoch


class Scored(Marked):
    """Bears its step, and logs the score of each epoch, or none.

    Args:
        scores: By epoch; the last one goes on.
        name: Under which they are logged.
    """

    def __init__(self, scores: Scores = (1.0,), name: str = "val_loss") -> None:
        super().__init__()
        self.scores, self.name = list(scores), name

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        score = self.scores[min(self.current_epoch, len(self.scores) - 1)]
        if score is not None:
            self.log(self.name, torch.tensor(score))


class Fake(Logger):
    """Reads of a checkpoint callback what the loggers of wandb, mlflow and others read, each time it has saved."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[dict[str, Any]] = []

    name = "fake"
    version = "0"

    def log_metrics(self, *args: Any, **kwargs: Any) -> None:
        pass

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        pass

    def after_save_checkpoint(self, checkpoint_callback: Any) -> None:
        read = checkpoint_callback
        best = {step_of(Path(path)): float(score) for path, score in read.best_k_models.items()}
        self.seen.append(
            {
                "best_k": dict(sorted(best.items())),
                "best": step_of(Path(read.best_model_path)) if read.best_model_path else None,
                "best_score": None if read.best_model_score is None else float(read.best_model_score),
                "last": step_of(Path(read.last_model_path)),
                "current": None if read.current_score is None else float(read.current_score),
                "top_k": (read.save_top_k, read.mode),
            }
        )


def resumed(folder: Path, checkpoint: NestedCheckpoint, ckpt_path: str | Path = "last", **options: Any) -> int:
    seen = Resumed()
    train(folder, seen, checkpoint, ckpt_path=ckpt_path, **options)
    return seen.step


def best_of(scores: Scores, k: int, mode: str) -> dict[int, float]:
    """The k best steps with their scores, by plain sorting: finite ones alone, of equal ones the earlier."""
    ranked = [(score, STEPS * (epoch + 1)) for epoch, score in enumerate(scores) if score is not None]
    ranked = [(score, step) for score, step in ranked if math.isfinite(score)]
    ranked.sort(key=lambda one: ((one[0] if mode == "min" else -one[0]), one[1]))
    return {step: score for score, step in sorted(ranked[:k], key=lambda one: one[1])}


def top(best: dict[int, float], mode: str) -> int | None:
    if not best:
        return None
    value = min(best.values()) if mode == "min" else max(best.values())
    return min(step for step, score in best.items() if score == value)


def chosen(seed: int) -> list[float | None]:
    """Scores with gaps, numbers that are none, and many ties."""
    chance = random.Random(seed)
    return [chance.choice([NAN, INF, -INF, None, 0.5, 0.5, 0.25, 0.75, 0.125, 1.0]) for _ in range(7)]


@pytest.mark.parametrize("mode", ["min", "max"])
@pytest.mark.parametrize(
    ("scores", "k"),
    [
        ([NAN] * 5, 2),  # Lightning keeps the first two, and never saves again
        ([NAN, 0.5, 0.25], 2),
        ([NAN, NAN, NAN, 0.5, 0.25, 0.75], 1),
        ([-INF, 0.5, 0.25, 0.75], 1),  # a diverged logarithm: Lightning's best for ever
        ([INF, 0.5, 0.25, 0.75], 1),
        ([0.5, NAN, INF, -INF, 0.5], 3),
        ([0.5, 0.5, 0.5, 0.5], 2),  # the earlier of equal ones stay
        ([1.0, 0.75, 0.5, 0.25], 1),
        ([0.125, 0.25, 0.5, 0.625, 0.75, 0.875], 1),  # the best is the first: Lightning's last would be it too
        ([None, 0.5, None, 0.25, None], 2),
        ([0.0, -0.0, -1.0], 1),
        *((chosen(seed), 1 + seed % 3) for seed in range(6)),
    ],
)
def test_what_is_best_and_last_is_so_after_each_epoch(scores: Scores, k: int, mode: Any, tmp_path: Path) -> None:
    """As loggers read it whenever a file was saved, and as the folder has it in the end."""
    logger = Fake()
    module = Scored(scores)
    trainer = train(
        tmp_path,
        NestedCheckpoint(tmp_path / "checkpoints", monitor="val_loss", mode=mode, top_k=k),
        module=module,
        epochs=len(scores),
        logger=logger,
    )
    assert trainer.state.finished
    assert len(logger.seen) == len(scores), "the latest is saved in each epoch, whatever the score"
    for epoch, seen in enumerate(logger.seen):
        best = best_of(scores[: epoch + 1], k, mode)
        assert seen["best_k"] == best
        assert seen["best"] == top(best, mode)
        assert seen["best_score"] == (best[seen["best"]] if best else None)
        assert seen["last"] == STEPS * (epoch + 1)
        assert seen["top_k"] == (k, mode)
        score = scores[epoch]
        if score is not None and math.isfinite(score):
            assert seen["current"] == score
    best = best_of(scores, k, mode)
    assert kept(tmp_path / "checkpoints") == sorted({*best, STEPS * len(scores)})


@pytest.mark.parametrize("async_save", [False, True], ids=["sync", "async"])
def test_best_and_last_of_a_trainer_load_the_weights_of_their_steps(async_save: bool, tmp_path: Path) -> None:
    scores = [0.5, 0.1, 0.9, 0.3]
    module = Scored(scores)
    trainer = train(
        tmp_path, NestedCheckpoint(monitor="val_loss", async_save=async_save), module=module, epochs=len(scores)
    )
    for ckpt_path, step in (("best", 4), ("last", 8), ("best", 4)):
        trainer.validate(module, batches(1), ckpt_path=ckpt_path, verbose=False)
        assert module.mark.unique().tolist() == [step]


@pytest.mark.parametrize("ckpt_path", ["best", "last"])
@pytest.mark.parametrize("given", [True, False], ids=["folder given", "folder of the Trainer"])
def test_best_and_last_are_found_by_a_new_process(ckpt_path: str, given: bool, tmp_path: Path) -> None:
    def callback() -> NestedCheckpoint:
        return NestedCheckpoint(tmp_path / "checkpoints" if given else None, monitor="val_loss")

    scores = [0.5, 0.1, 0.9]
    train(tmp_path, callback(), module=Scored(scores))
    step = resumed(tmp_path, callback(), ckpt_path, module=Scored(scores), epochs=4)
    assert step == {"best": 4, "last": 6}[ckpt_path]


def test_the_last_is_the_latest_step_and_not_the_youngest_file(tmp_path: Path) -> None:
    """A copy of the folder, or a touch, changes the times that Lightning goes by."""
    folder = tmp_path / "checkpoints"
    train(tmp_path, NestedCheckpoint(folder, rules=[Every(epochs=1)]))
    for path in folder.glob("step-00000002-*"):
        os.utime(path, (4e9, 4e9))
    (folder / "last.ckpt").unlink()
    assert resumed(tmp_path, NestedCheckpoint(folder, rules=[Every(epochs=1)]), epochs=4) == 6


def test_a_fresh_run_in_a_used_folder_has_its_own_best_and_last(tmp_path: Path) -> None:
    """The old best of 0.1 is of other weights; Lightning would go on to count its file, or call the new one v1."""
    folder = tmp_path / "checkpoints"
    train(tmp_path, NestedCheckpoint(folder, monitor="val_loss"), module=Scored([0.1, 0.2, 0.3]))
    old = {path.name: path.read_bytes() for path in folder.glob("step-*.ckpt")}
    new = NestedCheckpoint(folder, monitor="val_loss")
    train(tmp_path, new, module=Scored([0.5, 0.4]), epochs=2)
    assert step_of(Path(new.best_model_path)) == 4
    assert float(new.best_model_score or NAN) == pytest.approx(0.4)
    assert step_of(folder / "last.ckpt") == 4
    assert {name: (folder / name).read_bytes() for name in old} == old
    assert resumed(tmp_path, NestedCheckpoint(folder, monitor="val_loss"), epochs=3) == 4


def test_who_goes_back_goes_on_from_there(tmp_path: Path) -> None:
    """The branch that is left behind is of a higher step, and is not the last any more."""
    folder = tmp_path / "checkpoints"

    def rules() -> NestedCheckpoint:
        return NestedCheckpoint(folder, rules=[Every(epochs=1), Best("val_loss"), Latest()])

    train(tmp_path, rules(), module=Scored([0.5, 0.4, 0.3, 0.2, 0.1]), epochs=5)
    (second,) = folder.glob("step-00000004-*.ckpt")
    back = rules()
    assert resumed(tmp_path, back, second, module=Scored([0.5, 0.4, 0.35]), epochs=3) == 4
    assert step_of(Path(back.best_model_path)) == 6, "of this history"
    assert float(back.best_model_score or NAN) == pytest.approx(0.35)
    assert step_of(folder / "last.ckpt") == 6
    assert kept(folder) == [2, 4, 6, 6, 8, 10], "nothing is deleted that another history may need"
    told = [finding for finding in journal(tmp_path, "debugkit-1").findings if finding.rule == "checkpoint-repaired"]
    assert len(told) == 1, "nothing is left there silently"
    assert resumed(tmp_path, rules(), module=Scored([0.5, 0.4, 0.35, 0.3]), epochs=4) == 6


def test_several_callbacks_go_on_each_with_its_own(tmp_path: Path) -> None:
    scores = [0.5, 0.1, 0.9, 0.8]

    def both() -> list[NestedCheckpoint]:
        return [
            NestedCheckpoint(tmp_path / "best", monitor="val_loss"),
            NestedCheckpoint(tmp_path / "rare", rules=[Every(epochs=2)]),
        ]

    train(tmp_path, *both(), module=Scored(scores), epochs=3)
    assert (kept(tmp_path / "best"), kept(tmp_path / "rare")) == ([4, 6], [4])
    seen = Resumed()
    train(tmp_path, seen, *both(), module=Scored(scores), epochs=4, ckpt_path="last")
    assert seen.step == 6
    assert (kept(tmp_path / "best"), kept(tmp_path / "rare")) == ([4, 6, 8], [4, 8]), "what was gone on from stays"


def test_several_metrics_each_keep_their_best(tmp_path: Path) -> None:
    losses, accuracies = [0.5, 0.3, 0.4, 0.6], [0.1, 0.2, 0.9, 0.4]

    class Both(Scored):
        def validation_step(self, batch: Any, batch_idx: int) -> None:
            super().validation_step(batch, batch_idx)
            self.log("val_acc", accuracies[self.current_epoch])

    callback = NestedCheckpoint(tmp_path / "checkpoints", rules=[Best("val_loss"), Best("val_acc", mode="max")])
    logger = Fake()
    train(tmp_path, callback, module=Both(losses), epochs=4, logger=logger)
    assert kept(tmp_path / "checkpoints") == [4, 6], "one each; no rule asks for the latest"
    assert step_of(Path(callback.best_model_path)) == 4, "the first of the metrics is the one that best means"
    assert logger.seen[-1]["top_k"] == (1, "min")


def test_a_metric_that_no_one_logs_is_named_and_the_rest_goes_on(tmp_path: Path) -> None:
    """Lightning ends the training after its first validation."""
    rules = [Best("val_los", k=2), Every(steps=2), Latest()]
    trainer = train(tmp_path, NestedCheckpoint(tmp_path / "checkpoints", rules=rules), module=Scored([0.5, 0.4, 0.3]))
    assert trainer.state.finished
    assert kept(tmp_path / "checkpoints") == [2, 4, 6]
    (finding,) = warned(journal(tmp_path))
    assert finding.rule == "monitor-missing"
    assert "val_los " in finding.message
    assert "val_loss" in finding.message


@pytest.mark.parametrize(
    ("scores", "expected"),
    [([NAN] * 6, 1), ([0.5, NAN, NAN, NAN, NAN], 1), ([0.5, 0.4, 0.3], 0), ([NAN, 0.5], 0)],
)
def test_a_metric_that_is_no_number_is_told_once(scores: Scores, expected: int, tmp_path: Path) -> None:
    train(tmp_path, NestedCheckpoint(monitor="val_loss"), module=Scored(scores), epochs=len(scores))
    found = [finding.rule for finding in warned(journal(tmp_path))]
    assert found == ["monitor-nonfinite"] * expected


class Averaged(Scored):
    """Logs an object of torchmetrics, and has hyperparameters."""

    def __init__(self, width: int = 3) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.mean = MeanMetric()

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.mean.update(torch.tensor(float(self.global_step)))
        self.log("val_mean", self.mean)


def plain(value: Any) -> bool:
    if isinstance(value, dict):
        return all(isinstance(key, str) and plain(one) for key, one in value.items())
    if isinstance(value, list):
        return all(map(plain, value))
    return value is None or type(value) in (str, int, float, bool)


def test_files_and_records_hold_plain_types(tmp_path: Path) -> None:
    """The safe way to load refuses all else, and it is the only one that the command line of Lightning knows."""
    folder = tmp_path / "checkpoints"
    train(tmp_path, NestedCheckpoint(folder, monitor="val_mean", mode="max"), module=Averaged())
    (path,) = {path.resolve() for path in folder.glob("*.ckpt")}
    checkpoint = torch.load(path, weights_only=True)
    assert plain(checkpoint["debugkit-manifest"])
    record = json.loads(Path(f"{path}.json").read_text())
    assert plain(record)
    assert (record["step"], record["metrics"]["val_mean"]) == (6, 6.0)
    assert dict(checkpoint["hyper_parameters"]) == {"width": 3}


@pytest.mark.parametrize("ckpt_path", ["last", "best", "checkpoints/last.ckpt"])
def test_the_command_line_of_lightning_goes_on_from_it(
    ckpt_path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    seen = Resumed()

    class Data(pl.LightningDataModule):
        def train_dataloader(self) -> Any:
            return batches(STEPS)

        def val_dataloader(self) -> Any:
            return batches(1)

    def command(*arguments: str, callbacks: Sequence[pl.Callback] = ()) -> None:
        defaults = {
            "logger": False,
            "accelerator": "cpu",
            "devices": 1,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "num_sanity_val_steps": 0,
            "callbacks": [NestedCheckpoint("checkpoints", monitor="val_mean", mode="max"), *callbacks],
        }
        LightningCLI(Averaged, Data, save_config_callback=None, trainer_defaults=defaults, args=["fit", *arguments])

    command("--trainer.max_epochs=2", "--model.width=5")
    command("--trainer.max_epochs=3", f"--ckpt_path={ckpt_path}", callbacks=[seen])
    assert seen.step == 4


def test_a_folder_that_was_moved_is_gone_on_from(tmp_path: Path) -> None:
    """Records and links name no path, so that nothing points to where it was."""
    train(tmp_path, NestedCheckpoint(tmp_path / "old", monitor="val_loss"), module=Scored([0.5, 0.1, 0.9]))
    shutil.move(tmp_path / "old", tmp_path / "new")
    callback = NestedCheckpoint(tmp_path / "new", monitor="val_loss")
    assert resumed(tmp_path, callback, module=Scored([0.5, 0.1, 0.9, 0.8]), epochs=4) == 6
    assert kept(tmp_path / "new") == [4, 6, 8], "what was gone on from stays"
    assert step_of(Path(callback.best_model_path)) == 4
    assert not (tmp_path / "old").exists()
