"""The last file is the latest, the best is one with a number: where Lightning's own callback does otherwise."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpointing.marked import Averaged, Scored, kept, step_of, train
from lightning.pytorch.loggers import Logger
from monitors.breaking import journal, warned

from lightning_debugkit import NestedCheckpoint
from lightning_debugkit.checkpoints import Best, Every, Latest

pytestmark = [
    pytest.mark.usefixtures("one_thread", "no_report"),
    pytest.mark.filterwarnings("ignore::UserWarning:lightning", "ignore::FutureWarning"),
]
NAN, INF = math.nan, math.inf
Scores = Sequence[float | None]
STEPS = 2  # in an epoch


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
