"""Which finding can be the cause of which: a fault of the wiring stands before what came of it."""

from __future__ import annotations

from collections.abc import Sequence

from lightning_debugkit.core.finding import Finding, Severity

_SO_FROM_THE_START = ("preflight", "data")


def causes(effect: Finding, findings: Sequence[Finding]) -> list[Finding]:
    """Return those of ``findings`` that came no later and can have ``effect`` as their consequence.

    What asks for nothing is the cause of notes only. The program and its data were what they are from the first
    step on, whenever it was found.

    Example:
        >>> from lightning_debugkit.core.finding import Where
        >>> piled = Finding("stale-gradients", Severity.WARNING, "never cleared", Where(0, 3))
        >>> dead = Finding("dead-units", Severity.ERROR, "16 are dead", Where(2, 118), can_follow=("stale-gradients",))
        >>> [cause.rule for cause in causes(dead, [dead, piled])], causes(piled, [dead, piled])
        (['stale-gradients'], [])
    """
    return [
        cause
        for cause in findings
        if cause.severity >= min(Severity.WARNING, effect.severity)
        and (cause.where.step <= effect.where.step or cause.section in _SO_FROM_THE_START)
        and cause.rule in effect.can_follow
    ]


def causes_first(findings: Sequence[Finding]) -> list[Finding]:
    """Return ``findings`` in their order, but each behind its causes."""
    placed: dict[int, Finding] = {}

    def place(finding: Finding) -> None:
        # No rule is a consequence of its own consequences: this ends.
        for cause in causes(finding, findings):
            if id(cause) not in placed:
                place(cause)
        placed[id(finding)] = finding

    for finding in findings:
        if id(finding) not in placed:
            place(finding)
    return list(placed.values())
