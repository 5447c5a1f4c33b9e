"""A finding says its message from its evidence, and comes back whole from the journal."""

import pytest

from lightning_debugkit.core.finding import Finding, Severity, Where
from lightning_debugkit.core.rule import Rule

RULE = Rule("nonfinite-loss", Severity.ERROR, "loss is {loss} at step {step} in {module}", "Look at {module}.")


def test_a_rule_words_its_finding_from_evidence_and_place() -> None:
    finding = RULE.found(Where(epoch=1, step=24, module="box"), loss="inf", samples=[9])
    assert finding == Finding(
        rule="nonfinite-loss",
        severity=Severity.ERROR,
        message="loss is inf at step 24 in box",
        where=Where(epoch=1, step=24, rank=0, module="box"),
        evidence={"loss": "inf", "samples": [9]},
        advice="Look at box.",
    )


def test_the_event_has_the_fields_of_the_contract_in_order() -> None:
    event = RULE.found(Where(epoch=0, step=24, rank=1, module="box"), loss="inf").to_event()
    assert event == {
        "kind": "finding",
        "rule": "nonfinite-loss",
        "severity": "error",
        "message": "loss is inf at step 24 in box",
        "where": {"epoch": 0, "step": 24, "rank": 1, "module": "box"},
        "evidence": {"loss": "inf"},
        "advice": "Look at box.",
    }
    assert list(event) == ["kind", "rule", "severity", "message", "where", "evidence", "advice"]


def test_a_finding_comes_back_equal_from_its_event() -> None:
    finding = RULE.found(Where(epoch=1, step=2, rank=3, module="m"), loss="nan", samples=[1, 2])
    assert Finding.from_event(finding.to_event()) == finding


def test_unknown_fields_of_a_newer_version_are_passed_over() -> None:
    event = RULE.found(Where(epoch=1, step=2), loss="nan").to_event() | {"v": 2, "mood": "calm"}
    assert Finding.from_event(event).rule == "nonfinite-loss"


@pytest.mark.parametrize("event", [{}, {"rule": "x"}, {"rule": "x", "severity": "error", "message": "", "where": 3}])
def test_an_event_without_the_contract_is_refused(event: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="Finding needs the fields"):
        Finding.from_event(event)


def test_an_unknown_severity_is_refused() -> None:
    with pytest.raises(ValueError, match="Severity needs one of info, warning, error, got 'fatal'"):
        Severity.parse("fatal")
