"""A series of trainings that can be interrupted: each result is kept in a folder, and the next call goes on."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

from torch.utils.data import Dataset
from tqdm import tqdm

from lightning_debugkit.core.callback import DebugCallback
from lightning_debugkit.core.compat import Trainer
from lightning_debugkit.core.journal import Journal, read_journal, strict
from lightning_debugkit.evaluation.bias_variance import bias_variance_arguments
from lightning_debugkit.evaluation.bias_variance.callback import BiasVarianceReport
from lightning_debugkit.evaluation.bias_variance.error_history import errors_of
from lightning_debugkit.stats.intervals import Interval

Fit = Callable[[Dataset[Any], Dataset[Any]], Trainer]


class Study:
    """The results of a series, one JSON line each, in ``<folder>/studies``.

    A series that is asked for with other arguments has another file: results are never mixed.

    Args:
        folder: Run folder whose report will show the series.
        key: All that the results depend on and that this side of ``fit`` knows.
    """

    def __init__(self, folder: str | os.PathLike[str], name: str, key: Mapping[str, Any]) -> None:
        self.folder = Path(folder)
        self.name = name
        text = json.dumps(strict(key), sort_keys=True)
        self.stem = f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
        self.path = self.folder / "studies" / f"{self.stem}.jsonl"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.done = {row["run"]: row for row in self._read()}

    def _read(self) -> Iterator[dict[str, Any]]:
        if self.path.exists():
            for line in self.path.read_text(encoding="utf-8").splitlines():
                with contextlib.suppress(ValueError):  # a line that an interruption tore
                    yield json.loads(line)

    def results(self, runs: Sequence[str], train: Callable[[str], Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Return the result of each run; those that are not known yet are trained, under a progress bar."""
        with without_reports(), tqdm(total=len(runs), desc=self.name, unit="fit") as bar:
            for run in runs:
                if run not in self.done:
                    bar.set_postfix_str(run)
                    row = strict({"run": run, **train(run)})
                    self._keep(row)
                    self.done[run] = row
                bar.update()
        return [self.done[run] for run in runs]

    def _keep(self, row: Mapping[str, Any]) -> None:
        torn = self.path.exists() and not self.path.read_bytes().endswith(b"\n")
        with self.path.open("a", encoding="utf-8") as file:
            file.write(("\n" if torn else "") + json.dumps(row, allow_nan=False) + "\n")

    def tell(self, value: Mapping[str, Any]) -> None:
        """Put what came of the series into the journal of the folder, and render its report."""
        from lightning_debugkit.report import render  # late, as it needs matplotlib

        journal = Journal(self.folder)
        runs = read_journal(self.folder).of_kind("run") if journal.path.exists() else []
        alone = all("study" in run.get("config", {}) for run in runs)
        if not journal.path.exists():
            journal.append({"kind": "run", "rank": 0, "world_size": 1, "config": {"study": self.name}})
        journal.append({"kind": "measure", "epoch": 0, "step": 0, "rank": 0, "name": self.name, "value": value})
        journal.append(
            {"kind": "artifact", "rank": 0, "step": 0, "name": self.name, "path": f"studies/{self.path.name}"}
        )
        if alone:  # no run whose end says how it went
            journal.append({"kind": "end", "rank": 0, "step": 0, "status": "finished", "told": value["verdict"]})
        render(self.folder)


@contextlib.contextmanager
def without_reports() -> Iterator[None]:
    """Let the single fits of a series leave their journals without a page each."""
    with mock.patch.object(DebugCallback, "_render"):
        yield


def report_of(trainer: Any, asker: str) -> BiasVarianceReport:
    """Return the `BiasVarianceReport` of a Trainer that has fitted.

    Raises:
        TypeError: There is none, or it saw nothing.
    """
    callbacks: Iterable[Any] = getattr(trainer, "callbacks", ())
    found = next((callback for callback in callbacks if isinstance(callback, BiasVarianceReport)), None)
    if found is None:
        raise TypeError(
            f"{asker} needs fit to return a Trainer with a BiasVarianceReport, got {type(trainer).__name__}; "
            "end fit with `return trainer`, and give that Trainer callbacks=[BiasVarianceReport()]."
        )
    if not found.memory.moments:
        raise TypeError(
            f"{asker} needs fit to train in this process and to measure something, got a Trainer that did not; "
            "use one device, and give trainer.fit a validation loader."
        )
    return found


def last_errors(report: BiasVarianceReport) -> dict[str, list[float]]:
    """Return value, low and high of each error at the end of a fit."""
    errors = errors_of(report.memory.moments[-1])
    return {name: [error.value, error.low, error.high] for name, error in errors.items()}


def higher_is_better(trainer: Trainer, report: BiasVarianceReport) -> bool:
    """Return the direction of the report's metric."""
    return bias_variance_arguments.direction(report.looks.gauge.metric, report.maximize, trainer)[0]


def interval(held: Sequence[Any]) -> Interval:
    """Return an interval that was kept as value, low and high."""
    value, low, high = (float(part) for part in held)
    return Interval(value, low, high)


def length_of_data(dataset: Any, asker: str, name: str) -> int:
    """Return how many samples there are; raise where that cannot be known."""
    if not hasattr(dataset, "__len__") or not hasattr(dataset, "__getitem__"):
        raise TypeError(f"{asker} needs {name} to be a map-style Dataset, got {type(dataset).__name__}.")
    return len(dataset)
