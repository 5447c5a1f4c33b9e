"""What a run's journal says, gathered: how it ended, what was found in which order, what there is to draw."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from lightning_debugkit.core.finding import Finding, Severity
from lightning_debugkit.core.journal import VERSION, Event, Events
from lightning_debugkit.core.name_lists import begun, plural
from lightning_debugkit.report import verdict as verdicts
from lightning_debugkit.report.finding_order import Folded, findings_in_order, fold_findings
from lightning_debugkit.report.number_formats import as_int, as_list, as_mapping, as_number, headline, sentence
from lightning_debugkit.report.troubles import Trouble, troubles

Status = Literal["finished", "exception", "interrupted", "stopped", "unfinished"]
_WORST_FIRST: tuple[Status, ...] = ("exception", "interrupted", "stopped", "finished")
# Messages of gloo, NCCL and the store by which processes find each other.
_LOST = re.compile(r"connection (was )?(closed|reset)|remote (worker|process)|broken pipe|nccl", re.IGNORECASE)
_STOPS = ("KeyboardInterrupt", "SIGTERMException")  # of the journals of before, which called them exceptions


@dataclass(frozen=True)
class Measure:
    """One point of a series."""

    step: int
    rank: int
    value: Any


@dataclass(frozen=True)
class Summary:
    """All that a report says about a run, but for what lies in other files."""

    verdict: str  # the one sentence to read if only one is read
    start_here: str  # what to do first, empty if nothing
    status: Status  # how the run ended; `unfinished` if its journal has no end
    steps: int  # optimizer steps that this run took, as far as the journal knows
    seconds: float | None
    reason: str  # why it ended, in words; empty if that is not known, or an exception says it
    exception: str  # type and message of what ended it, empty if nothing did
    world_size: int
    # findings to show: the gravest first, then the earliest, but none before what can have caused it
    findings: tuple[Folded, ...]
    events: tuple[Event, ...]  # the same findings as journal events, none folded
    measures: Mapping[str, tuple[Measure, ...]]  # the series, by name, in the journal's order
    artifacts: tuple[Event, ...]  # events of the files that were left behind
    run: Mapping[str, Any]  # the event that opened the journal
    remarks: tuple[str, ...] = ()  # what the reader should know about the journal itself
    troubles: tuple[Trouble, ...] = ()  # callbacks of the kit that failed themselves
    step: int = 0  # those of the runs that it went on from, too
    # from which checkpoint, epoch and step it went on, empty if it began anew
    resumed: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[Finding, ...] = ()  # what a section tells that is no finding
    ignored: tuple[str, ...] = ()  # rules that found what calls for action and were not to be reported

    def points(self, name: str) -> tuple[Measure, ...]:
        """Return the points of a series, none if there is no such."""
        return self.measures.get(name, ())

    def last(self, name: str) -> Mapping[str, Any]:
        """Return the last value of a series whose values are mappings, empty if there is none."""
        return as_mapping(self.points(name)[-1].value) if self.points(name) else {}

    @property
    def course(self) -> str:
        """How the run ended and why, as far as that is known."""
        return f"{self.status}: {self.reason}" if self.reason else self.status

    @property
    def last_step(self) -> str:
        """The last step in words: a journal without an end may lack what its last second brought."""
        return f"step {self.step} at least" if self.status == "unfinished" else f"step {self.step}"

    @property
    def is_well(self) -> bool:
        """It finished, and all that look for faults looked until then; what they found is another matter."""
        return self.status == "finished" and not any(trouble.is_lasting for trouble in self.troubles)

    @property
    def is_green(self) -> bool:
        """It is well, and nothing was found that its verdict names."""
        return self.is_well and not any(verdicts.is_named(told.finding) for told in self.findings)

    def tells(self, finding: Finding) -> bool:
        """Tell whether the verdict has the message of a finding, or its first clause."""
        return headline(finding.message)[0] in self.verdict

    def untold(self, finding: Finding) -> str:
        """Return what the verdict leaves out of the message of a finding that it tells."""
        rest = headline(finding.message)[1]
        return f"{begun(rest)}." if rest else ""

    @property
    def other_exception(self) -> str:
        """What ended the run, unless verdict or findings say it."""
        message = sentence(self.exception.partition(": ")[2])
        told = [self.verdict, *(sentence(each.finding.message) for each in self.findings)]
        is_said = any(message in each or (each and each in message) for each in told)
        return "" if not message or is_said else self.exception

    def of(self, *severities: Severity) -> tuple[Folded, ...]:
        """Return the findings of these severities, in order."""
        return tuple(told for told in self.findings if told.finding.severity in severities)

    @property
    def counts(self) -> str:
        """How many findings of which severity there are, in words."""
        named = ((Severity.ERROR, "error"), (Severity.WARNING, "warning"), (Severity.INFO, "note"))
        counted = [plural(len(self.of(severity)), noun) for severity, noun in named if self.of(severity)]
        return ", ".join(counted) or "no findings"


def summarize(events: Events) -> Summary:
    """Return what the journal says; events that are unknown, foreign or lack fields are passed over."""
    findings = findings_in_order(events.findings)
    folded = fold_findings(findings)
    shown = [told.finding for told in folded]
    ends, open_ranks = _ends(events)
    end = min(ends, key=_worst_and_first, default=None)
    status: Status = "unfinished" if end is None else _status(end)
    run = next((event for event in reversed(events.of_kind("run")) if as_int(event.get("rank")) == 0), {})
    step = max((_step(event) for event in events), default=0) if end is None else _step(end)
    resumed = next(iter(events.of_kind("resume")), {})
    first = as_int(resumed.get("step"), as_int(run.get("first_step")))
    steps = as_int((end or {}).get("steps"), max(step - first, 0))
    exception = as_mapping(end.get("exception")) if end else {}
    told_exception = ": ".join(str(exception[key]) for key in ("type", "message") if exception.get(key))
    failed = troubles(events.of_kind("trouble"))
    broken = tuple(trouble for trouble in failed if trouble.is_lasting)
    callbacks = tuple(map(str, as_list(run.get("callbacks"))))
    counted = as_number(end.get("trained")) if end else None
    trained = None if counted is None else int(counted)
    stage = str((end or {}).get("stage", ""))
    ignored = tuple(dict.fromkeys(str(event.get("rule", "")) for event in events.of_kind("ignored")))
    checks = [event for event in events.of_kind("measure") if event.get("name") == "preflight"]
    is_unheard = any("listening" in as_mapping(as_mapping(each.get("value")).get("left_out")) for each in checks[-1:])
    skipped = as_int((end or {}).get("skipped"))
    ending = verdicts.Ending(
        status, steps, told_exception, broken, callbacks, trained, step, stage, ignored, is_unheard, skipped
    )
    return Summary(
        verdict=_told(end) or verdicts.verdict(ending, shown),
        start_here=verdicts.start_here(shown),
        status=status,
        steps=steps,
        seconds=as_number(end.get("seconds")) if end else None,
        reason=sentence(str((end or {}).get("reason", ""))),
        exception=told_exception,
        world_size=max(as_int(run.get("world_size"), 1), 1 + max(map(_rank, events), default=0)),
        findings=folded,
        events=tuple({"v": VERSION, **finding.to_event()} for finding in findings),
        measures=_measures(events.of_kind("measure")),
        artifacts=tuple(events.of_kind("artifact")),
        run=run,
        step=step,
        resumed=resumed,
        notes=tuple(events.notes),
        remarks=(
            *_from(resumed, first, steps),
            *(each.remark for each in failed),
            *_remarks(events, findings, open_ranks if ends else []),
        ),
        troubles=failed,
        ignored=ignored,
    )


def _told(end: Event | None) -> str:
    """Return the sentence that an end brings with it, as one does that no Trainer wrote."""
    said = sentence(str((end or {}).get("told", "")))
    return f"{begun(said)}." if said else ""


def _from(resumed: Mapping[str, Any], first: int, steps: int) -> Iterable[str]:
    if not resumed and first and steps:
        yield f"Went on at step {first}, behind an earlier fit of the same Trainer; {plural(steps, 'step')} since."
    if resumed:
        place = f"at step {as_int(resumed.get('step'))}, epoch {as_int(resumed.get('epoch'))}"
        yield f"Resumed {place}, from {resumed.get('path') or 'a checkpoint'}; {plural(steps, 'step')} since."


def _ends(events: Events) -> tuple[list[Event], list[int]]:
    """Return the last end of each rank, and the ranks that were opened but have none."""
    last: dict[int, Event | None] = {}
    for event in events:
        if event["kind"] == "run":
            last[_rank(event)] = None
        elif event["kind"] == "end":
            last[_rank(event)] = event
    return [end for end in last.values() if end], sorted(rank for rank, end in last.items() if not end)


def _worst_and_first(end: Event) -> tuple[int, bool, float]:
    # A rank that fails takes the others with it, a moment later: what these tell is that they have lost it.
    lost = _LOST.search(str(as_mapping(end.get("exception")).get("message"))) is not None
    return _WORST_FIRST.index(_status(end)), lost, as_number(end.get("seconds")) or math.inf


def _status(end: Event) -> Status:
    named = end.get("status")
    if named == "exception" and as_mapping(end.get("exception")).get("type") in _STOPS:
        return "interrupted"
    return next((status for status in _WORST_FIRST if status == named), "stopped")


def _step(event: Event) -> int:
    return as_int(event.get("step"), as_int(as_mapping(event.get("where")).get("step")))


def _rank(event: Event) -> int:
    return as_int(event.get("rank"), as_int(as_mapping(event.get("where")).get("rank")))


def _measures(events: Iterable[Event]) -> dict[str, tuple[Measure, ...]]:
    series: dict[str, list[Measure]] = {}
    for event in events:
        if isinstance(event.get("name"), str) and isinstance(event.get("step"), int) and "value" in event:
            series.setdefault(event["name"], []).append(Measure(event["step"], _rank(event), event["value"]))
    return {name: tuple(points) for name, points in series.items()}


def _remarks(events: Events, findings: list[Finding], open_ranks: list[int]) -> Iterable[str]:
    if any(as_int(event["v"], VERSION + 1) > VERSION for event in events):
        yield "The journal was written by a newer version of the kit: what this one does not know is left out."
    unread = len(events.of_kind("finding")) - len(findings)
    if unread:
        yield f"{plural(unread, 'finding')} of the journal could not be read."
    if open_ranks:
        who = ", ".join(map(str, open_ranks))
        yield f"No end is on record for rank {who}: killed, or still running."
