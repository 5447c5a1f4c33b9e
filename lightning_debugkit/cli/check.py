"""``lightning-debugkit check train.py``: run a program up to its first fit, check that, and end."""

from __future__ import annotations

import itertools
import runpy
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest import mock

from jsonargparse import ArgumentParser

from lightning_debugkit.cli.outcome import Told, lines_of
from lightning_debugkit.core.finding import Finding, Severity

# What a check takes over from the program's own Trainer.
_TAKEN = ("accumulate_grad_batches", "gradient_clip_val", "gradient_clip_algorithm")
_MARK = ".check"  # in a run folder that a check made


class _Checked(BaseException):
    """Ends the program once its first fit has been checked; no `except Exception` of the program's holds it up."""

    def __init__(self, findings: list[Finding], failure: Exception | None, run_folder: Path | None) -> None:
        self.findings = findings
        self.failure = failure
        self.run_folder = run_folder


HELP = "check a program in its first steps, on a copy, and end it"


def make_parser() -> ArgumentParser:
    parser = ArgumentParser(description="Run a program up to its first fit, and check a copy of what it would train.")
    parser.add_argument("script", type=str, help="program that calls Trainer.fit, followed by its own arguments")
    parser.add_argument("--folder", type=str, default="lightning-debugkit-check", help="where the report is put")
    return parser


def run(script: str, folder: str, arguments: list[str] | None = None) -> Told:
    """Check a program and return what is found; status 1 if something calls for action, 2 if the fit broke."""
    from lightning_debugkit.report import render

    found, failure, run_folder = check(script, arguments or [], Path(folder))
    broke = failure and f"{script} broke before its first fit was done: {type(failure).__name__}: {failure}"
    if run_folder is None:
        raise RuntimeError(broke)
    lines = [line for finding in found for line in (*lines_of(finding), "")] + ([broke] if broke else [])
    (run_folder / _MARK).touch()
    report = run_folder / "report.html"
    if not report.is_file():  # short and well
        render(run_folder)
    lines = [*(lines or ["No fault found in the first steps."]), f"Report: {report}"]
    is_pressing = any(finding.severity >= Severity.WARNING for finding in found)
    return "\n".join(lines), int(is_pressing) if failure is None else 2


def check(script: str, arguments: list[str], folder: Path) -> tuple[list[Finding], Exception | None, Path | None]:
    """Run ``script`` with its arguments until it fits for the first time, and check a copy of what it fits.

    Returns:
        What is found, what the fit raised, and the run folder, ``None`` if it did not come so far.

    Raises:
        FileNotFoundError: There is no such script.
        RuntimeError: The program ended or broke before it came to a fit.
    """
    if not Path(script).is_file():
        raise FileNotFoundError(f"check needs a Python program, got {script!r}; give the file that calls Trainer.fit.")
    with ExitStack() as stack:
        for trainer in _trainers():
            stack.enter_context(mock.patch.object(trainer, "fit", _fit(folder, trainer, trainer.fit)))
        stack.enter_context(mock.patch.object(sys, "argv", [script, *arguments]))
        stack.enter_context(mock.patch.object(sys, "path", [str(Path(script).resolve().parent), *sys.path]))
        try:
            runpy.run_path(script, run_name="__main__")
        except _Checked as checked:
            return checked.findings, checked.failure, checked.run_folder
        except SystemExit as ended:
            if ended.code not in (None, 0):
                raise RuntimeError(f"{script} ended with status {ended.code} before it came to a fit.") from ended
        except Exception as error:
            if isinstance(error, SyntaxError) and error.filename == script:
                raise ValueError(
                    f"check needs a Python program, got {script!r}, whose line {error.lineno} is not ({error.msg}); "
                    "give the file that calls Trainer.fit."
                ) from error
            raise RuntimeError(
                f"{script} broke before its first fit was done: {type(error).__name__}: {error}"
            ) from error
    raise RuntimeError(f"{script} ended without a fit; give the program, and the arguments, with which it trains.")


def _make_room(folder: Path) -> None:
    """Let an earlier check give its place, where a reader looks first, to the one to come."""
    last = folder / "debugkit"
    if (last / _MARK).is_file():
        places = (folder / f"debugkit-{number}" for number in itertools.count(1))
        last.rename(next(place for place in places if not place.exists()))


def _trainers() -> list[type[Any]]:
    from lightning.pytorch import Trainer

    try:
        import pytorch_lightning
    except ImportError:
        return [Trainer]
    return [Trainer, pytorch_lightning.Trainer]


def _fit(folder: Path, kind: type[Any], original: Callable[..., None]) -> Callable[..., None]:
    """Return what stands for ``fit``: it checks what it is given, and ends the program."""

    def fit(
        trainer: Any,
        model: Any,
        train_dataloaders: Any = None,
        val_dataloaders: Any = None,
        datamodule: Any = None,
        *_: Any,
        **__: Any,
    ) -> None:
        from lightning_debugkit.testing import watched

        _make_room(folder)
        own = {name: getattr(trainer, name) for name in _TAKEN if getattr(trainer, name, None) is not None}
        data = {"train_dataloaders": train_dataloaders, "val_dataloaders": val_dataloaders, "datamodule": datamodule}
        before = set(folder.resolve().rglob("journal-0.jsonl"))
        with mock.patch.object(kind, "fit", original):
            found, failure = watched(model, data, folder=folder, **own)
        made = set(folder.resolve().rglob("journal-0.jsonl")) - before
        raise _Checked(found, failure, max(made).parent if made else None)

    return fit
