"""The experiment log: every run that left a journal under a folder, when, from which code, how it ended."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lightning_debugkit.core.finding import Severity
from lightning_debugkit.core.journal import Events, read_journal
from lightning_debugkit.core.name_lists import plural
from lightning_debugkit.core.run_folders import INDEX, folded, unfold
from lightning_debugkit.report.number_formats import as_list, as_mapping, as_number, cut, number, phrase
from lightning_debugkit.report.summary import Summary, summarize

_JOURNAL = "journal-0.jsonl"
_SKIPPED = {"node_modules", "__pycache__", "site-packages"}
_COLUMNS = ("when", "run", "commit", "outcome", "best", "findings", "checkpoints", "note")


@dataclass(frozen=True)
class Experiment:
    """One run."""

    id: str = ""  # its name, empty for a run without a snapshot
    label: str = ""  # the name that its author gave it
    note: str = ""
    commit: str = ""  # what was checked out, empty if that is not known
    dirty: bool = False  # whether files differed from it
    when: str = ""  # when it began, ISO 8601
    outcome: str = ""  # `finished`, `stopped`, `interrupted`, `exception` or `unfinished`, and what that said
    step: int = 0
    best: str = ""  # name and value of the monitored metric at its best
    checkpoints: tuple[str, ...] = ()  # files that were left
    findings: Mapping[str, int] | None = None  # how many, by severity
    # run folder, or the name that a short fit has in an index; empty if only the side reference tells of it
    folder: str = ""


def experiments(folder: Path) -> list[Experiment]:
    """Return the runs whose journals lie under ``folder``, the oldest first."""
    found = [_of_run(run) for run in run_folders(folder)]
    lines = (
        _of_events(events, index.parent / name) for index in indexes(folder) for name, events in folded(index).items()
    )
    return sorted([*(each for each in found if each is not None), *lines], key=lambda each: each.when)


def indexes(folder: Path) -> Iterator[Path]:
    """Yield the indexes of short fits under ``folder``."""
    name = Path(INDEX)
    for path, _, files in _walk(folder):
        if path.name == name.parent.name and name.name in files:
            yield path / name.name


def run_folders(folder: Path) -> Iterator[Path]:
    """Yield the run folders under ``folder``, itself included."""
    for path, _, files in _walk(folder):
        if _JOURNAL in files:
            yield path


def newest(folder: Path) -> tuple[Path, int]:
    """Return the run folder that began last under ``folder``, and how many others there are.

    A short fit that is a line of an index gets a folder of its own again; ``folder`` may also be its name there.

    Raises:
        FileNotFoundError: There is no run.
    """
    if any(folder.glob("journal-*.jsonl")):
        return folder, 0
    if folder.parent.name == Path(INDEX).parent.name and not folder.exists():
        return unfold(folder.parent.parent, folder.name), 0
    runs = [(_started(read_journal(run)), run) for run in run_folders(folder)]
    for index in indexes(folder):
        runs += [(_started(events), index.parent / name) for name, events in folded(index).items()]
    if not runs:
        if not folder.exists():
            raise FileNotFoundError(
                f"A report needs a folder with a run, got {str(folder)!r}, which does not exist; it is usually "
                "LOG_DIR/debugkit."
            )
        raise FileNotFoundError(
            f"A report needs a run folder with a journal, and none is in {str(folder)!r} or below; it is usually "
            "LOG_DIR/debugkit, and a run that nobody watched has none: LIGHTNING_DEBUGKIT=standard watches one."
        )
    last = max(runs)[1]
    return last if last.exists() else unfold(last.parent.parent, last.name), len(runs) - 1


def _started(events: Events) -> str:
    return next((str(event.get("started") or "") for event in reversed(events.of_kind("run"))), "")


def _walk(folder: Path) -> Iterator[tuple[Path, list[str], list[str]]]:
    for path, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name not in _SKIPPED)
        if "pyvenv.cfg" in files:
            folders[:] = []
        if _JOURNAL in files:
            folders[:] = []  # its sources, figures and checkpoints
        yield Path(path), folders, files


def _of_run(folder: Path) -> Experiment | None:
    try:
        return _of_events(read_journal(folder), folder)
    except OSError:
        return None


def _of_events(events: Events, folder: Path) -> Experiment:
    summary = summarize(events)
    code = next((event for event in summary.artifacts if event.get("name") == "code"), {})
    end = next((event for event in reversed(summary.artifacts) if event.get("name") == "code-end"), {})
    run = summary.run
    said = f" {summary.exception}" if summary.status == "exception" and summary.exception else ""
    return Experiment(
        id=str(code.get("id") or ""),
        label=str(code.get("label") or ""),
        note=str(code.get("note") or ""),
        commit=str(code.get("commit") or run.get("commit") or ""),
        dirty=bool(code.get("dirty", run.get("dirty"))),
        when=str(run.get("started") or ""),
        outcome=f"{summary.status}{said}",
        step=summary.step,
        best=_best(end) or _logged(summary),
        checkpoints=tuple(map(str, as_list(end.get("checkpoints")))),
        findings={str(each): len(summary.of(each)) for each in reversed(Severity) if summary.of(each)},
        folder=str(folder),
    )


def _logged(summary: Summary) -> str:
    """Return the last value of what the run logged: of its validation loss, else of what comes first."""
    names = dict.fromkeys(name for point in summary.points("logged") for name in as_mapping(point.value))
    wanted = sorted(names, key=lambda name: ("val" not in name.lower(), "loss" not in name.lower()))
    if not wanted:
        return ""
    values = [as_mapping(point.value).get(wanted[0]) for point in summary.measures["logged"]]
    last = next(known for value in reversed(values) if (known := as_number(value)) is not None)
    return f"{wanted[0]} {number(last)} (last)"


def _best(end: Mapping[str, Any]) -> str:
    best = as_mapping(end.get("best"))
    value = as_number(best.get("value"))
    return "" if value is None else f"{best.get('name')} {number(value)}"


def of_reference(name: str, commit: str, when: str, trailers: Mapping[str, str]) -> Experiment:
    """Return what a side reference alone tells of a run."""
    found = dict(part.partition("=")[::2] for part in trailers.get("Debugkit-Findings", "").split())
    step = trailers.get("Debugkit-Step", "")
    return Experiment(
        id=name,
        label=trailers.get("Debugkit-Label", ""),
        note=trailers.get("Debugkit-Note", ""),
        commit=commit,
        dirty=trailers.get("Debugkit-Dirty") == "yes",
        when=when,
        outcome=trailers.get("Debugkit-Outcome", "unfinished"),
        step=int(step) if step.isdigit() else 0,
        best=trailers.get("Debugkit-Best", ""),
        checkpoints=_words(trailers.get("Debugkit-Checkpoint", "")),
        findings={name: int(count) for name, count in found.items() if count.isdigit()},
    )


def _words(text: str) -> tuple[str, ...]:
    try:
        return tuple(shlex.split(text))
    except ValueError:  # written by hand, or cut
        return tuple(text.split())


def merged_experiments(runs: Iterable[Experiment], references: Iterable[Experiment]) -> list[Experiment]:
    """Return all runs, those of which only a reference is left included, the oldest first."""
    runs = list(runs)
    known = {run.id for run in runs if run.id}
    return sorted([*runs, *(each for each in references if each.id not in known)], key=lambda each: each.when)


def experiment_table(runs: Iterable[Experiment]) -> str:
    """Return the log as columns of text."""
    rows = [_COLUMNS, *map(_cells, runs)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_COLUMNS))]
    lines = (zip(row, widths, strict=True) for row in rows)
    return "\n".join("  ".join(cell.ljust(width) for cell, width in line).rstrip() for line in lines)


def experiments_as_markdown(runs: Iterable[Experiment]) -> str:
    """Return the log as a table in Markdown."""
    rows = [_COLUMNS, tuple("---" for _ in _COLUMNS), *map(_cells, runs)]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows)


def experiments_as_json(runs: Iterable[Experiment]) -> str:
    """Return the log as JSON: a list, one mapping a run."""
    return json.dumps([asdict(run) for run in runs], indent=2)


def _cells(run: Experiment) -> tuple[str, ...]:
    commit = f"{run.commit[:8]}{'+' if run.dirty else ''}" if run.commit else "-"
    found = (run.findings or {}).items()
    told = ", ".join(plural(count, "note" if name == "info" else name) for name, count in found)
    files = [Path(path).name for path in run.checkpoints]
    cells = (
        run.when[:16].replace("T", " "),
        run.label or run.id or Path(run.folder).parent.name,
        commit,
        f"{run.outcome} at step {run.step}" if run.step else run.outcome,
        run.best or "-",
        told or "none",
        phrase(files, 2) if files else "-",
        run.note,
    )
    return tuple(cut(" ".join(cell.split()), 100) for cell in cells)
