"""Runs side by side on one page: how each ended, what was found, and their loss, rates, gradients and metrics."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from lightning_debugkit.core.atomic_files import write_bytes
from lightning_debugkit.core.finding import Severity
from lightning_debugkit.core.name_lists import plural
from lightning_debugkit.report.curves import Curve, curve_figure, curves, of_first_rank
from lightning_debugkit.report.number_formats import as_mapping, as_number, cut, number, phrase
from lightning_debugkit.report.parts import Cell, Drawing, Paragraph, Section, Table, table_of
from lightning_debugkit.report.read_report import Report
from lightning_debugkit.report.rendering import compose
from lightning_debugkit.report.sections.logged_metrics import is_validation_loss, logged
from lightning_debugkit.report.sections.run import HYPER_PARAMETERS
from lightning_debugkit.report.summary import Summary
from lightning_debugkit.report.to_html import html

MOST = 6  # colours that are told apart
_METRICS = 4
_LONG = 90
_SAVED = "hyper-parameters"
_ASKED = ("commit", "state of the code", "seed", "batch size", _SAVED)


def compare_runs(reports: Sequence[Report], page: Path, given: Sequence[Path] = ()) -> str:
    """Write one self-contained page on several runs, and return what it says first.

    Args:
        given: What the user calls each run by, a folder above it for one; the run folders if not given.

    Raises:
        ValueError: There are fewer than two runs, or more than six.
    """
    if not 2 <= len(reports) <= MOST:
        raise ValueError(f"A comparison needs two to {MOST} runs, got {len(reports)}; name as many run folders.")
    names = run_names(given or [report.folder for report in reports])
    runs = {name: report.summary for name, report in zip(names, reports, strict=True)}
    worst = next((each for each in runs.values() if not each.is_well), reports[0].summary)
    pressing = {name: len(each.of(Severity.ERROR, Severity.WARNING)) for name, each in runs.items()}
    named = [name + (f" ({plural(pressing[name], 'finding')})" if pressing[name] else "") for name in names]
    verdict = f"{len(runs)} runs side by side: {', '.join(named)}."
    status = "stopped" if any(pressing.values()) else worst.status  # no page on what went wrong is green
    whole = replace(
        worst, verdict=verdict, start_here="", status=status, findings=(), events=(), remarks=(), exception=""
    )
    sections = (
        Section("Findings", 0, _told(_findings, runs), is_open=True),
        Section("Loss", 1, _told(_losses, runs), is_open=True),
        Section("Logged metrics", 2, _told(_metrics, runs), is_open=True),
        Section("Gradients", 3, _told(_gradients, runs), is_open=True),
        Section("Learning rate", 4, _told(_rates, runs), is_open=True),
        Section("What differs", 5, _told(_settings, runs), is_open=True),
    )
    counted = " · ".join(f"{name}: {summary.status}, {summary.last_step}" for name, summary in runs.items())
    write_bytes(page, html(whole, compose(whole, page.parent, sections), counted).encode("utf-8", "replace"))
    return verdict


def run_names(folders: Sequence[Path]) -> list[str]:
    """Return short names of run folders that tell them apart.

    >>> run_names([Path("logs/version_0/debugkit"), Path("logs/version_1/debugkit")])
    ['version_0', 'version_1']
    """
    whole = [folder.resolve() for folder in folders]
    parts = [(folder.parent if folder.name == "debugkit" else folder).parts for folder in whole]
    for depth in range(1, max(map(len, parts)) + 1):
        ends = [each[-depth:] for each in parts]
        if len(set(ends)) == len(ends):
            first = [end[0] for end in ends]
            return first if len(set(first)) == len(first) else ["/".join(end) for end in ends]
    return [f"{each[-1]} ({count})" for count, each in enumerate(parts, 1)]  # the same run, twice


Runs = Mapping[str, Summary]


def _told(parts: Callable[[Runs], Iterator[Any]], runs: Runs) -> Callable[[Summary, Path], Iterator[Any]]:
    return lambda _summary, _folder: parts(runs)


def _findings(runs: Runs) -> Iterator[Table]:
    verdicts = tuple((name, summary.verdict) for name, summary in runs.items())
    yield table_of("Verdicts", (), verdicts)
    pressing = (Severity.ERROR, Severity.WARNING)
    rules = dict.fromkeys(each.finding.rule for summary in runs.values() for each in summary.of(*pressing))
    rows = tuple((Cell(rule, is_code=True), *(_found(rule, summary) for summary in runs.values())) for rule in rules)
    if rows:
        yield table_of("Errors and warnings, and the step of the first", ("rule", *runs), rows)


def _found(rule: str, summary: Summary) -> Cell | str:
    held = [told.finding for told in summary.findings if told.finding.rule == rule]
    if not held:
        return "ignored" if rule in summary.ignored else "-"
    first = min(held, key=lambda finding: finding.where.step)
    times = f" ({len(held)})" if held[1:] else ""
    return Cell(f"{first.severity}, step {first.where.step}{times}", is_marked=first.severity is Severity.ERROR)


def _losses(runs: Runs) -> Iterator[Drawing]:
    steps = {name: curves(of_first_rank(summary.points("loss"))) for name, summary in runs.items()}
    yield from _drawn("loss", "Loss of each step", "loss", steps)
    names = {curve.label for summary in runs.values() for curve in logged(summary) if is_validation_loss(curve.label)}
    yield from _logged(sorted(names), runs)


def _metrics(runs: Runs) -> Iterator[Drawing]:
    of_runs = [{curve.label for curve in logged(summary)} for summary in runs.values()]
    times = Counter(name for names in of_runs for name in names if "loss" not in name.lower())
    yield from _logged(sorted(name for name, count in times.items() if count > 1)[:_METRICS], runs)


def _logged(names: Sequence[str], runs: Runs) -> Iterator[Drawing]:
    for name in names:
        held = {run: [curve for curve in logged(summary) if curve.label == name] for run, summary in runs.items()}
        yield from _drawn(f"logged-{name}", name, cut(name, 28), held)


def _gradients(runs: Runs) -> Iterator[Drawing]:
    held = {}
    for name, summary in runs.items():
        points = [
            replace(point, value=_total(point.value)) for point in of_first_rank(summary.points("gradient-norms"))
        ]
        held[name] = curves(points)
    yield from _drawn("gradients", "Norm of the whole gradient", "norm", held)


def _total(norms: Any) -> float:
    known = [value for value in map(as_number, as_mapping(norms).values()) if value is not None]
    return math.sqrt(sum(value * value for value in known)) if all(map(math.isfinite, known)) else math.nan


def _rates(runs: Runs) -> Iterator[Drawing | Paragraph]:
    held = {name: curves(of_first_rank(summary.points("learning-rate"))) for name, summary in runs.items()}
    found = [curve for each in held.values() for curve in each]
    if found and all(curve.is_constant for curve in found):
        said = (f"{name} {', '.join(number(float(curve.values[0])) for curve in each)}" for name, each in held.items())
        yield Paragraph(f"Constant: {'; '.join(said)}.")
    else:
        yield from _drawn("rates", "Learning rate", "learning rate", held)


def _settings(runs: Runs) -> Iterator[Table | Paragraph]:
    facts = {name: dict(_facts(summary)) for name, summary in runs.items()}
    keys = dict.fromkeys(key for held in facts.values() for key in held)
    rows = tuple(
        (key, *(cut(held.get(key, "-"), _LONG) for held in facts.values()))
        for key in keys
        if len({held.get(key) for held in facts.values()}) > 1
    )
    if rows:
        yield table_of("Settings that are not the same", ("", *runs), rows)
    else:
        yield Paragraph("What is on record of these runs is the same.")
    unknown = [name for name in _ASKED if not all(name in dict(_known(summary)) for summary in runs.values())]
    if unknown:
        hint = "; save_hyperparameters() in the module puts its arguments on record" if _SAVED in unknown else ""
        yield Paragraph(f"Not on record of each, and perhaps not the same: {', '.join(unknown)}{hint}.")


def _facts(summary: Summary) -> Iterator[tuple[str, str]]:
    for group in ("versions", "config"):
        for key, value in as_mapping(summary.run.get(group)).items():
            if key in HYPER_PARAMETERS:
                yield from ((f"{key}.{name}", phrase(each)) for name, each in as_mapping(value).items())
            else:
                yield str(key), phrase(value)
    yield from ((name, phrase(value)) for name, value in _known(summary) if name != _SAVED)
    if summary.resumed:
        yield "resumed at", f"step {summary.step - summary.steps}"


def _known(summary: Summary) -> Iterator[tuple[str, Any]]:
    """Yield what a run may tell of itself, as far as it does; code with changes that no commit has is not known."""
    run = summary.run
    told = {
        "commit": run.get("commit"),
        "state of the code": None if run.get("dirty") in (None, True) else "as committed",
        "seed": run.get("seed"),
        "batch size": run.get("batch_size"),
        _SAVED: as_mapping(run.get("config")).get("hyper_parameters"),
    }
    yield from ((name, value) for name, value in told.items() if value is not None)


def _drawn(name: str, title: str, up: str, held: Mapping[str, Sequence[Curve]]) -> Iterator[Drawing]:
    """Yield a figure of all curves, each called after its run; a run of one curve has its colour in all figures."""
    is_one = max(map(len, held.values()), default=0) <= 1
    found = [
        replace(curve, label=run if len(each) == 1 else f"{run} {curve.label}", color=place if is_one else None)
        for place, (run, each) in enumerate(held.items())
        for curve in each
    ]
    found = [curve for curve in found if np.isfinite(curve.values).any()]
    if found:
        alt = f"{title} of {plural(len({curve.label for curve in found}), 'curve')}."
        yield Drawing(re.sub(r"\W+", "-", f"runs-{name}"), title, alt, partial(curve_figure, found, "step", up))
