"""The report leads to the cause: a fault of the wiring stands before what came of it, and a fault that grew once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from declared import as_declared
from declared import rules as declared

from lightning_debugkit.core.finding import Finding, Severity, Where
from lightning_debugkit.core.journal import Events
from lightning_debugkit.report import html, markdown, render, summarize
from lightning_debugkit.report.summary import Summary

Writer = Callable[..., Path]

PILED = Finding("stale-gradients", Severity.WARNING, "gradients pile up", Where(0, 3), advice="Call zero_grad().")
FAR = Finding("update-ratio-high", Severity.WARNING, "steps are too large", Where(0, 5), advice="Lower the rate.")
DEAD = as_declared(Finding("dead-units", Severity.ERROR, "16 of 16 units are dead", Where(2, 118, module="body.1")))
CUT = Finding("constant-output", Severity.WARNING, "the output never differs", Where(2, 118, module="head"))
BATCH_NORM = Finding("parameter-not-in-optimizer", Severity.WARNING, "2 parameters", Where(0, 1), advice="Pass them.")
NAN = Finding("nonfinite-loss", Severity.ERROR, "loss is nan", Where(0, 24), advice="Look at log.")
END = {"kind": "end", "status": "finished", "step": 440, "rank": 0}


def told(*said: Any) -> Summary:
    return summarize(
        Events({"v": 1, **(as_declared(e).to_event() if isinstance(e, Finding) else e)} for e in (*said, END))
    )


def rules(*findings: Finding) -> list[str]:
    return [shown.finding.rule for shown in told(*findings).findings]


def test_a_fault_of_the_wiring_stands_before_what_came_of_it_and_is_where_to_start() -> None:
    summary = told(DEAD, PILED)
    assert [shown.finding.rule for shown in summary.findings] == ["stale-gradients", "dead-units"]
    assert summary.start_here == "Call zero_grad()."
    assert summary.verdict == (
        "The run finished, but went wrong, first at step 3: gradients pile up; "
        "then at step 118: 16 of 16 units are dead."
    )


def test_a_chain_of_causes_is_told_from_its_beginning() -> None:
    assert rules(CUT, DEAD, FAR, PILED) == ["stale-gradients", "update-ratio-high", "dead-units", "constant-output"]


def test_inputs_that_are_far_from_unit_size_stand_before_what_they_do_to_the_first_layer() -> None:
    raw = Finding("input-not-normalized", Severity.WARNING, "numbers of size 120", Where(0, 0))
    assert rules(CUT, DEAD, raw) == ["input-not-normalized", "dead-units", "constant-output"]


def test_what_came_later_is_no_cause() -> None:
    assert rules(DEAD, replace(PILED, where=Where(3, 119))) == ["dead-units", "stale-gradients"]


def test_what_cannot_have_done_it_waits_its_turn() -> None:
    """Two batch norms that Lightning's BaseFinetuning leaves out break no loss."""
    assert rules(BATCH_NORM, NAN) == ["nonfinite-loss", "parameter-not-in-optimizer"]


def test_a_note_is_no_cause() -> None:
    assert rules(replace(PILED, severity=Severity.INFO), DEAD) == ["dead-units", "stale-gradients"]


def test_a_note_is_the_cause_of_a_note() -> None:
    """A slice that lies on its side looks mislabelled: it is mended before labels are looked at."""
    labels = Finding("label-issue", Severity.INFO, "79 labels look wrong", Where(9, 440))
    slice_ = Finding("weak-slice", Severity.INFO, "scanner east is 87 % wrong: look at it", Where(9, 440))
    assert rules(labels, slice_) == ["weak-slice", "label-issue"]
    verdict = told(labels, slice_, END).verdict
    assert "2 notes on the data, first: scanner east is 87 % wrong" in verdict


def test_no_rule_comes_of_itself() -> None:
    def above(rule: str) -> set[str]:
        return {rule} | {each for cause in declared()[rule].can_follow for each in above(cause)}

    for name, rule in declared().items():
        assert name not in {each for cause in rule.can_follow for each in above(cause)}


def test_each_rule_of_the_chain_is_one_that_the_kit_has() -> None:
    assert {cause for rule in declared().values() for cause in rule.can_follow} <= set(declared())


def test_a_journal_of_before_sections_is_read(journal: Writer) -> None:
    """What can have come of what, it does not say: the findings stand by severity and step."""
    old = [{k: v for k, v in e.to_event().items() if k not in ("section", "can_follow")} for e in (PILED, DEAD)]
    summary = summarize(Events({"v": 1, **e} for e in (*old, END)))
    assert [shown.finding.rule for shown in summary.findings] == ["dead-units", "stale-gradients"]


@pytest.mark.parametrize("order", [1, -1])
def test_a_finding_that_became_worse_stands_once_as_the_worst(order: int) -> None:
    milder = replace(
        DEAD, severity=Severity.WARNING, message="15 of 16 units are dead", where=Where(1, 40, 0, "body.1")
    )
    summary = told(*(milder, DEAD)[::order])
    [shown] = summary.findings
    assert (shown.finding, shown.others) == (DEAD, (milder,))
    assert summary.counts == "1 error"


def test_a_page_with_an_error_has_the_colour_of_an_error_though_its_cause_comes_first(journal: Writer) -> None:
    folder = journal(PILED, DEAD, END)
    render(folder)
    assert '<header class="error">' in (folder / "report.html").read_text()


def test_a_finding_names_what_it_can_have_come_of(journal: Writer) -> None:
    folder = journal(PILED, FAR, DEAD, END)
    render(folder)
    text, page = (folder / "report.md").read_text(), (folder / "report.html").read_text()
    assert text.count("Can come of") == page.count("Can come of") == 2
    assert "Can come of #1 stale-gradients, #2 update-ratio-high: mend that first." in text
    assert 'Can come of <a href="#finding-1">#1 stale-gradients</a>, <a href="#finding-2">#2 update-ratio' in page


def test_a_gap_that_classes_make_which_were_never_learnt_sends_the_reader_to_them() -> None:
    never = Finding("class-never-predicted", Severity.WARNING, "3 is never predicted", Where(9, 440))
    gap = Finding("overfitting", Severity.INFO, "20 points worse", Where(9, 440), advice="Collect more data.")
    shown = told(gap, never).findings
    assert [each.finding.rule for each in shown] == ["class-never-predicted", "overfitting"]
    assert shown[1].causes == ((1, "class-never-predicted"),)


@pytest.mark.parametrize("is_one_of_two", [True, False])
def test_a_section_refers_to_findings_by_their_number_unless_there_is_but_one(
    is_one_of_two: bool, journal: Writer
) -> None:
    folder = journal(
        {"kind": "measure", "name": "loss", "epoch": 0, "step": 0, "rank": 0, "value": 1.0},
        {"kind": "measure", "name": "loss", "epoch": 0, "step": 24, "rank": 0, "value": 2.0},
        NAN,
        *([CUT] if is_one_of_two else []),
        END,
    )
    render(folder)
    assert ("Findings here: #1 nonfinite-loss" in (folder / "report.md").read_text()) == is_one_of_two
    assert (">#1 nonfinite-loss</a>" in (folder / "report.html").read_text()) == is_one_of_two


def test_a_fault_of_the_program_is_the_cause_of_what_was_seen_before_it_was_named() -> None:
    """A check of the first step ends before the one that listens for longer."""
    twice = Finding("double-softmax", Severity.WARNING, "softmax works twice", Where(0, 1), advice="Give the scores.")
    held = Finding("cannot-overfit-batch", Severity.WARNING, "4 samples cannot be learned", Where(0, 0))
    assert rules(held, twice) == ["double-softmax", "cannot-overfit-batch"]
    late = Finding("stale-gradients", Severity.WARNING, "gradients pile up", Where(0, 130))
    assert rules(DEAD, late) == ["dead-units", "stale-gradients"]


def test_a_long_message_is_told_in_two_halves_each_once(tmp_path: Path) -> None:
    clause = "8 samples cannot be learned by heart"
    rest = "the loss stays at 1.46 after 50 steps of SGD as configured and 100 each of Adam at 0.001 and 0.01"
    long = Finding("cannot-overfit-batch", Severity.WARNING, f"{clause}: {rest}", Where(0, 0), {"loss": 1.4612})
    summary = told(long)
    assert summary.verdict == f"The run finished; one thing needs attention: {clause}."
    assert summary.untold(long) == f"T{rest[1:]}."
    for page in (html(summary), markdown(summary)):
        body = page.partition("<body>")[2] or page
        assert body.count(clause) == body.count(rest[1:]) == 1
        assert "1.461" not in body  # the message has it
