"""Fits whose checkpoints bear their step in each number of a large buffer, which training changes in place.

A file that is torn, or of two moments, is seen by its contents: by a judge who knows files and steps, but no code of
the kit.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset
from torchmetrics import MeanMetric


def score(step: int) -> float:
    """Falls over the run, and jumps up and down on the way; no two steps share one."""
    return 37 * step % 101 - step / 8


class Marked(pl.LightningModule):
    """Writes its step over a buffer in each step; the score of a validation is a function of the step.

    Args:
        megabytes: Of the buffer.
    """

    def __init__(self, megabytes: float = 0.01) -> None:
        super().__init__()
        self.net = nn.Linear(2, 1)
        self.mark: Tensor
        self.register_buffer("mark", torch.zeros(int(megabytes * 250_000)))

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        self.mark.fill_(self.global_step + 1)
        return self.net(batch[0]).square().mean()

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("score", torch.tensor(score(self.global_step)))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.01)


def batches(count: int) -> DataLoader[Any]:
    return DataLoader(TensorDataset(torch.randn(2 * count, 2)), batch_size=2)


class Scored(Marked):
    """Bears its step, and logs the score of each epoch, or none.

    Args:
        scores: Of ``val_loss``, by epoch; the last one goes on.
    """

    def __init__(self, scores: Sequence[float | None] = (1.0,)) -> None:
        super().__init__()
        self.scores = list(scores)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        score = self.scores[min(self.current_epoch, len(self.scores) - 1)]
        if score is not None:
            self.log("val_loss", torch.tensor(score))


class Averaged(Scored):
    """Logs an object of torchmetrics, and has hyperparameters."""

    def __init__(self, width: int = 3) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.mean = MeanMetric()

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.mean.update(torch.tensor(float(self.global_step)))
        self.log("val_mean", self.mean)


class Resumed(pl.Callback):
    """Remembers where a fit went on, and sees that its weights are of that step."""

    step = -1

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.step = trainer.global_step
        assert isinstance(pl_module, Marked)
        assert bool((pl_module.mark == trainer.global_step).all())


def train(
    folder: Path, *callbacks: pl.Callback, module: Marked | None = None, epochs: int = 3, **options: Any
) -> pl.Trainer:
    """Fit two steps an epoch, with a validation each."""
    ckpt_path = options.pop("ckpt_path", None)
    usual: dict[str, Any] = {
        "max_epochs": epochs,
        "logger": False,
        "accelerator": "cpu",
        "devices": 1,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "num_sanity_val_steps": 0,
    }
    trainer = pl.Trainer(default_root_dir=folder, callbacks=list(callbacks), **{**usual, **options})
    trainer.fit(module or Marked(), batches(2), batches(1), ckpt_path=ckpt_path)
    return trainer


def step_of(path: Path) -> int:
    """The step that a checkpoint says it is of."""
    step: int = torch.load(path, weights_only=True)["global_step"]
    return step


def fault(path: Path) -> str:
    """Why a checkpoint is not sound; empty if it is. By the zip's sums, and by the step in every number."""
    try:
        with zipfile.ZipFile(path) as archive:
            bad = archive.testzip()
        if bad is not None:
            return f"{bad} does not have its sum"
        checkpoint = torch.load(path, weights_only=True)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    marks = checkpoint["state_dict"]["mark"]
    step = checkpoint["global_step"]
    return "" if bool((marks == step).all()) else f"holds {sorted(set(marks.tolist()))[:3]} at step {step}"


def kept(folder: Path) -> list[int]:
    """The steps of the checkpoints; each is whole and has its record, and nothing else is there."""
    files = [path for path in sorted(folder.glob("*.ckpt")) if not path.is_symlink()]
    assert {path.name: fault(path) for path in files} == {path.name: "" for path in files}
    links = {name for name in ("last.ckpt", "best.ckpt") if (folder / name).is_symlink()}
    names = {path.name for path in files}
    assert {path.name for path in folder.iterdir()} == names | {f"{name}.json" for name in names} | links
    steps = sorted(json.loads((folder / f"{name}.json").read_text())["step"] for name in names)
    assert steps == sorted(map(step_of, files))
    return steps
