"""What a faulty program is, what must be said about it, and the data that the programs share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from sklearn import datasets
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, TensorDataset


@dataclass
class Program:
    """A user's program, ready to fit.

    Args:
        module: The user's module.
        train: The user's training batches.
        val: Validation batches.
        trainer: Arguments of the Trainer.
        ckpt_path: Writes the checkpoint to resume from into a folder and returns its path.
        callback: Arguments of the kit's callback that watches the program.
        recording: The training dataset, where it notes what was asked of it.
        callbacks: The user's own callbacks.
        test: Batches of the test that follows the fit, if there is one.
    """

    module: pl.LightningModule
    train: Iterable[Any]
    val: Iterable[Any] | None = None
    trainer: dict[str, Any] = field(default_factory=dict)
    ckpt_path: Callable[[Path], Path] | None = None
    callback: dict[str, Any] = field(default_factory=dict)
    recording: Recording | None = None
    callbacks: Sequence[pl.Callback] = ()
    test: Iterable[Any] | None = None


@dataclass(frozen=True)
class Fault:
    """A program with one mistake, the same program mended, and what must be said about the mistake.

    Args:
        rule: The rule that must fire.
        build: Makes the program; its argument says whether the mistake is mended.
        module: Acceptable ``where.module``, any of them; ``None`` asks nothing.
        source: Fragment of the user's line that ``evidence["source"]`` must contain.
        op: Fragment of ``evidence["op"]``.
        samples: Positions in the batch; those of ``Program.recording`` are found out from the run.
        at_step: ``where.step``.
        batch_idx: ``evidence["batch_idx"]``.
        raises: The fit must end with an exception (True), must not (False), or may (None).
        splits: The batch can be cut into parts, so that samples can be named.
        rank: ``where.rank``; ``None`` asks nothing.
        by: The kit's callback that must find it.
    """

    rule: str
    build: Callable[[bool], Program]
    module: tuple[str, ...] | None = None
    source: str | None = None
    op: str | None = None
    samples: list[int] | None = None
    at_step: int | None = None
    batch_idx: int | None = None
    raises: bool | None = False
    splits: bool = True
    rank: int | None = 0
    by: str = "GradientAnomalyDetector"


FAULTS: dict[str, Fault] = {}


def fault(
    rule: str, *module: str, into: dict[str, Fault] = FAULTS, **expected: Any
) -> Callable[[Callable[[bool], Program]], Callable[[bool], Program]]:
    """Enter a program under the name of its function, seeded; ``module`` are the places that may be named."""

    def enter(build: Callable[[bool], Program]) -> Callable[[bool], Program]:
        def seeded(mended: bool) -> Program:
            pl.seed_everything(7, verbose=False)
            return build(mended)

        expected.setdefault("raises", rule.startswith("nonfinite"))
        assert build.__name__ not in into, build.__name__
        into[build.__name__] = Fault(rule, seeded, module or None, **expected)
        return build

    return enter


class Module(pl.LightningModule):
    """A user's module with Adam; ``mended`` chooses between the mistake and its correction."""

    def __init__(self, mended: bool, rate: float = 1e-3) -> None:
        super().__init__()
        self.mended = mended
        self.rate = rate

    def configure_optimizers(self) -> Any:
        return torch.optim.Adam(self.parameters(), lr=self.rate)


class Classifier(Module):
    """A network called ``net`` that learns classes from ``(x, y)`` batches."""

    def __init__(self, mended: bool, net: nn.Module | None = None, rate: float = 1e-3) -> None:
        super().__init__(mended, rate)
        self.net = mlp(64, 32, 10) if net is None else net

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        return nn.functional.cross_entropy(self(x), y)


class Recording(Dataset[Any]):
    """A user's dataset that notes the indices it is asked for; ``bad`` are those with the fault."""

    def __init__(self, *columns: Tensor, bad: Iterable[int] = ()) -> None:
        self.columns = columns
        self.bad = set(bad)
        self.asked: list[int] = []

    def __len__(self) -> int:
        return len(self.columns[0])

    def __getitem__(self, index: int) -> Any:
        self.asked.append(index)
        return tuple(column[index] for column in self.columns)

    def first_bad(self, batch_size: int) -> tuple[int, list[int], list[int]]:
        """Return the first batch of the run that held a bad sample: its number, their positions, their indices."""
        for start in range(0, len(self.asked), batch_size):
            batch = self.asked[start : start + batch_size]
            if positions := [position for position, index in enumerate(batch) if index in self.bad]:
                return start // batch_size, positions, [batch[position] for position in positions]
        raise AssertionError(f"none of {self.bad} was asked for")


def mlp(*widths: int, act: Callable[[], nn.Module] = nn.ReLU) -> nn.Sequential:
    """Linear layers of these widths with an activation between two of them."""
    layers: list[nn.Module] = []
    for inner, outer in pairwise(widths):
        layers += [nn.Linear(inner, outer), act()]
    return nn.Sequential(*layers[:-1])


@cache
def _load(name: str) -> tuple[Tensor, Tensor]:
    x, y = getattr(datasets, f"load_{name}")(return_X_y=True)
    return torch.tensor(x, dtype=torch.float32), torch.tensor(y)


def digits(n: int = 512) -> tuple[Tensor, Tensor]:
    """``n`` images of digits, (n, 64) in [0, 1], and their classes."""
    x, y = _load("digits")
    return x[:n] / 16, y[:n].clone()


def wine(*, scaled: bool = True) -> tuple[Tensor, Tensor]:
    """178 wines, (178, 13), and their three classes."""
    x, y = _load("wine")
    return (x - x.mean(0)) / x.std(0) if scaled else x.clone(), y.clone()


def diabetes() -> tuple[Tensor, Tensor]:
    """442 patients, (442, 10), and the progress of the disease, (442, 1), all standardised."""
    x, y = _load("diabetes")
    y = y.float()[:, None]
    return (x - x.mean(0)) / x.std(0), (y - y.mean(0)) / y.std(0)


def batches(*columns: Tensor, size: int = 32, shuffle: bool = True, **options: Any) -> DataLoader[Any]:
    """A usual loader of these columns."""
    return DataLoader(TensorDataset(*columns), batch_size=size, shuffle=shuffle, **options)


def trained(
    module: pl.LightningModule,
    train: Iterable[Any],
    folder: Path,
    epochs: int = 1,
    callbacks: Sequence[pl.Callback] = (),
) -> Path:
    """Train for some epochs, as the run before did, and return its checkpoint."""
    quiet: dict[str, Any] = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    quiet |= {"enable_model_summary": False, "callbacks": list(callbacks)}
    trainer = pl.Trainer(max_epochs=epochs, accelerator="cpu", devices=1, **quiet)
    trainer.fit(module, train)
    trainer.save_checkpoint(folder / "last.ckpt")
    return folder / "last.ckpt"


def recorded(
    module: pl.LightningModule, *columns: Tensor, bad: Sequence[int], mended: bool = False, **trainer: Any
) -> Program:
    """A program on a shuffled dataset whose faulty samples are known; all are tensors, 32 a batch, two epochs."""
    dataset = Recording(*columns, bad=bad)
    loader = DataLoader(dataset, batch_size=32, shuffle=True)
    return Program(module, loader, trainer={"max_epochs": 2, **trainer}, recording=None if mended else dataset)
