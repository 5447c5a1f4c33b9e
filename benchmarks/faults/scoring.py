"""From findings to a score: detected, diagnosed, placed, accused, with Wilson's intervals."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scipy.stats import binomtest

from lightning_debugkit import Finding, Severity, read_journal
from lightning_debugkit.report.finding_order import findings_in_order


@dataclass(frozen=True)
class Score:
    """What was said of one run of one program, judged by what the program states.

    Args:
        detected: Anything of severity warning or above.
        diagnosed: The first of those, or the one that the report begins with, is an acceptable rule.
        placed: It names the place; None where the program states none.
        said: Rule and message of each, in the order they were told.
    """

    detected: bool
    diagnosed: bool
    placed: bool | None
    said: tuple[tuple[str, str], ...]


def findings_under(folder: Path) -> list[Finding]:
    """Return the findings of all runs that left a journal under ``folder``, oldest run first."""
    runs = {path.parent for path in folder.rglob("journal-*.jsonl")}
    return [f for run in sorted(runs, key=lambda run: run.stat().st_ctime_ns) for f in read_journal(run).findings]


def text_of(finding: Finding) -> str:
    """Return all that a person reads of a finding."""
    evidence = json.dumps(dict(finding.evidence), default=str, ensure_ascii=False)
    return "\n".join((finding.message, str(finding.where), evidence, finding.advice))


def score(findings: Iterable[Finding], diagnoses: Sequence[str], place: str | None) -> Score:
    """Judge what was said by the acceptable rules and the place."""
    told = [f for f in findings if f.severity >= Severity.WARNING]
    said = tuple((f.rule, f.message) for f in told)
    if not told:
        return Score(False, False, None if place is None else False, said)
    heads = (told[0], findings_in_order(told)[0])  # the gravest, unless what it can be a consequence of was told, too
    right = [f for f in heads if f.rule in diagnoses]
    placed = None if place is None else any(place in text_of(f) for f in right)
    return Score(True, bool(right), placed, said)


def share(hits: int, of: int) -> dict[str, Any]:
    """Return ``hits`` of ``of`` with the share and Wilson's 95 % interval; only the counts where there are none."""
    if not of:
        return {"hits": hits, "of": of}
    interval = binomtest(hits, of).proportion_ci(method="wilson")
    return {"hits": hits, "of": of, "share": hits / of, "low": float(interval.low), "high": float(interval.high)}
