"""What a summary makes of a journal: its verdict, its order, its folding."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from declared import as_declared

from lightning_debugkit.core.finding import Finding, Severity, Where
from lightning_debugkit.core.journal import Events, read_journal
from lightning_debugkit.report import html, summarize

Writer = Callable[..., Path]

ERROR = as_declared(Finding("nonfinite-loss", Severity.ERROR, "loss is nan.", Where(0, 24), advice="Look at log."))
WARNING = as_declared(
    Finding("dead-units", Severity.WARNING, "40 of 64 units never fire", Where(0, 3), advice="Lower the rate.")
)
INFO = as_declared(Finding("seed-not-set", Severity.INFO, "no seed is set", Where(0, 0), advice="Set one."))


def events(*said: Finding | dict[str, Any]) -> Events:
    return Events({"v": 1, **(as_declared(each).to_event() if isinstance(each, Finding) else each)} for each in said)


def end(status: str, step: int = 96, **more: Any) -> dict[str, Any]:
    return {"kind": "end", "status": status, "step": step, "rank": 0, **more}


CRASH = end("exception", exception={"type": "ValueError", "message": "bad shape."})

SKIPPED = replace(ERROR, evidence={"update": "skipped"})
GIVEN_UP = {"type": "TrainingAnomaly", "message": "loss is nan; max_skips=2 updates were dropped before it."}


@pytest.mark.parametrize(
    ("said", "verdict"),
    [
        ([end("finished")], "No fault found in 96 steps."),
        ([end("finished", 1)], "No fault found in 1 step."),
        ([end("finished", 0)], "No step was taken."),
        ([INFO, end("finished")], "No fault found in 96 steps."),
        ([ERROR, end("exception")], "The run broke at step 24: loss is nan."),
        ([replace(ERROR, message="loss is nan at step 24"), CRASH], "The run broke: loss is nan at step 24."),
        ([ERROR, end("finished")], "The run finished, but went wrong at step 24: loss is nan."),
        (
            [SKIPPED, end("finished", skipped=3)],
            "The run finished; 3 steps were skipped, the first at step 24: loss is nan.",
        ),
        ([SKIPPED, end("finished", skipped=1)], "The run finished; 1 step was skipped at step 24: loss is nan."),
        (
            [SKIPPED, end("interrupted", skipped=2)],
            "The run was interrupted at step 96; 2 steps were skipped, the first at step 24: loss is nan.",
        ),
        (
            [SKIPPED, {**CRASH, "skipped": 2}],
            "The run ended with an exception at step 96: ValueError: bad shape; 2 steps were skipped, the first at "
            "step 24: loss is nan.",
        ),
        ([SKIPPED, end("exception", exception=GIVEN_UP, skipped=3)], "The run broke at step 24: loss is nan."),
        ([ERROR, end("finished", skipped=3)], "The run finished, but went wrong at step 24: loss is nan."),
        ([WARNING, end("finished")], "The run finished; one thing needs attention: 40 of 64 units never fire."),
        (
            [WARNING, replace(WARNING, rule="constant-output"), end("finished")],
            "The run finished; 2 things need attention, first: 40 of 64 units never fire.",
        ),
        ([CRASH], "The run ended with an exception at step 96: ValueError: bad shape."),
        (
            [WARNING, CRASH],
            "The run ended with an exception at step 96: ValueError: bad shape; "
            "one thing needs attention: 40 of 64 units never fire.",
        ),
        ([end("stopped")], "The run was stopped at step 96; no fault was found until then."),
        (
            [{"kind": "measure", "name": "loss", "step": 7, "value": 1.0}],
            "The run was killed or is still running, last seen at step 7; no fault was found until then.",
        ),
    ],
)
def test_the_verdict_is_one_sentence_that_fits_the_case(said: list[Any], verdict: str) -> None:
    assert summarize(events(*said)).verdict == verdict


def test_of_a_run_without_an_end_the_last_step_is_the_least_that_it_can_have_reached() -> None:
    seen = {"kind": "measure", "name": "loss", "step": 7, "value": 1.0}
    assert " · no end on record · step 7 at least" in html(summarize(events(seen)))
    ended = html(summarize(events(seen, end("finished", reason="max_epochs=3 was reached"))))
    assert " · finished: max_epochs=3 was reached · step 96<" in ended


def test_a_step_that_merely_begins_with_the_same_digits_is_not_the_step() -> None:
    summary = summarize(events(replace(ERROR, message="loss is nan since step 240"), end("exception")))
    assert summary.verdict == "The run broke at step 24: loss is nan since step 240."


def test_things_that_need_attention_are_counted_as_they_are_shown() -> None:
    """One rule at one module on four ranks is one thing."""
    seen = [replace(WARNING, where=Where(0, 3, rank=rank)) for rank in range(4)]
    assert "one thing needs attention" in summarize(events(*seen, end("finished"))).verdict


def test_advice_starts_with_the_gravest_and_never_with_a_note() -> None:
    assert summarize(events(INFO, WARNING, ERROR)).start_here == "Look at log."
    assert summarize(events(INFO)).start_here == ""


def test_errors_come_first_then_the_earliest() -> None:
    late = replace(ERROR, rule="exploding-gradient", where=Where(1, 90))
    shown = summarize(events(INFO, WARNING, late, ERROR)).findings
    assert [(told.number, told.finding.rule) for told in shown] == [
        (1, "nonfinite-loss"),
        (2, "exploding-gradient"),
        (3, "dead-units"),
        (4, "seed-not-set"),
    ]


def test_ranks_are_folded_and_modules_are_not() -> None:
    at = [replace(ERROR, where=Where(0, 24, rank, module)) for rank, module in ((1, "a"), (0, "a"), (0, "b"))]
    shown = summarize(events(*at)).findings
    assert [(told.finding.where.module, told.ranks, told.others) for told in shown] == [
        ("a", (0, 1), ()),
        ("b", (0,), ()),
    ]


def test_what_a_folded_rank_says_differently_is_kept() -> None:
    other = replace(ERROR, message="loss is inf", where=Where(0, 24, rank=1))
    [told] = summarize(events(ERROR, other)).findings
    assert told.others == (other,)


def test_the_fourth_finding_of_a_rule_is_surplus() -> None:
    shown = summarize(events(*(replace(WARNING, where=Where(0, 3, module=name)) for name in "abcd"))).findings
    assert [told.surplus for told in shown] == [False, False, False, True]


@pytest.mark.parametrize(
    "lost",
    [
        "[gloo/transport/tcp/pair.cc:553] Connection closed by peer [127.0.0.1]:31904. This is typically caused by a "
        "remote worker crashing.",
        "Connection reset by peer",
        "NCCL error: remote process exited or there was a network error",
    ],
)
def test_what_a_rank_raised_outweighs_the_connection_that_the_others_lost(lost: str) -> None:
    gone = end("exception", exception={"type": "RuntimeError", "message": lost}, seconds=0.3)
    raised = {**CRASH, "rank": 1, "seconds": 0.3}
    assert summarize(events(gone, raised)).exception == "ValueError: bad shape."
    assert summarize(events(gone)).exception == f"RuntimeError: {lost}"


def test_an_exception_on_one_rank_outweighs_the_end_of_another() -> None:
    told = summarize(events(end("finished"), {**CRASH, "rank": 1}))
    assert (told.status, told.exception, told.world_size) == ("exception", "ValueError: bad shape.", 2)


def test_a_rank_without_an_end_is_named() -> None:
    summary = summarize(events({"kind": "run", "rank": 0}, {"kind": "run", "rank": 1}, end("finished")))
    assert summary.status == "finished"
    assert summary.remarks == ("No end is on record for rank 1: killed, or still running.",)


def test_a_resumed_run_that_was_killed_did_not_finish() -> None:
    assert (
        summarize(events({"kind": "run", "rank": 0}, end("finished"), {"kind": "run", "rank": 0})).status
        == "unfinished"
    )


@pytest.mark.parametrize(
    "foreign",
    [
        {"kind": "run", "world_size": "many", "versions": 3, "config": "none"},
        {"kind": "measure"},
        {"kind": "measure", "name": "loss", "step": None, "value": 1},
        {"kind": "measure", "name": ["loss"], "step": 1, "value": 1},
        {"kind": "artifact"},
        {"kind": "artifact", "name": "samples", "path": None, "samples": "x"},
        {"kind": "end", "status": ["odd"], "step": "last", "exception": "boom", "seconds": "long"},
        {"kind": "never-heard-of", "step": 3},
    ],
)
def test_foreign_events_are_survived(foreign: dict[str, Any]) -> None:
    assert summarize(events(foreign, ERROR)).findings[0].finding == ERROR


def test_findings_that_cannot_be_read_are_counted() -> None:
    assert summarize(events({"kind": "finding"}, ERROR)).remarks == ("1 finding of the journal could not be read.",)


def test_a_newer_journal_is_named_as_such() -> None:
    [remark] = summarize(Events([{"v": 2, "kind": "end", "status": "finished", "step": 5}])).remarks
    assert "newer version" in remark


def test_measures_keep_their_order_and_their_names_of_no_number(journal: Writer) -> None:
    place = {"kind": "measure", "name": "loss", "epoch": 0, "rank": 0}
    folder = journal({**place, "step": 1, "value": math.nan}, {**place, "step": 2, "value": 0.5})
    points = summarize(read_journal(folder)).measures["loss"]
    assert [(point.step, point.value) for point in points] == [(1, "nan"), (2, 0.5)]
