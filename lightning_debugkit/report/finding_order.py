"""Which findings are one and the same to the reader, which can be the cause of which, and which come first."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from lightning_debugkit.core.finding import Finding, Severity

SHOWN_PER_RULE = 3
_CAUSES = 3
_SO_FROM_THE_START = ("preflight", "data")


@dataclass(frozen=True)
class Folded:
    """Findings of one rule at one module: the gravest, and what the others add."""

    number: int  # its place in the report, counted from 1; figures refer to it
    finding: Finding  # the gravest; of these the earliest
    ranks: tuple[int, ...]
    # those that say something else: another step, another sample, a time when it was less grave
    others: tuple[Finding, ...] = ()
    surplus: bool = False  # several of its rule and severity are shown before it
    causes: tuple[tuple[int, str], ...] = ()  # numbers and rules of the first that it can have come of

    @property
    def anchor(self) -> str:
        return f"finding-{self.number}"


def findings_in_order(findings: Iterable[Finding]) -> list[Finding]:
    """Return ``findings`` with the gravest first, then the earliest; but none before what can have caused it."""
    return causes_first(sorted(findings, key=lambda finding: (-finding.severity, finding.where.step)))


def fold_findings(findings: Iterable[Finding]) -> tuple[Folded, ...]:
    """Fold findings that share rule and module into the gravest of them; their order is kept."""
    groups: dict[tuple[str, str], list[Finding]] = {}
    for finding in findings:
        groups.setdefault((finding.rule, finding.where.module), []).append(finding)
    numbers = {id(finding): number for number, group in enumerate(groups.values(), start=1) for finding in group}
    everything = [finding for group in groups.values() for finding in group]
    shown: dict[tuple[str, int], int] = {}
    folded = []
    for number, group in enumerate(groups.values(), start=1):
        first, *rest = sorted(group, key=lambda finding: -finding.severity)
        before = shown.get((first.rule, first.severity), 0)
        shown[first.rule, first.severity] = before + 1
        folded.append(
            Folded(
                number,
                first,
                ranks=tuple(sorted({finding.where.rank for finding in (first, *rest)})),
                others=tuple(finding for finding in rest if _says(finding) != _says(first)),
                surplus=before >= SHOWN_PER_RULE,
                causes=tuple(sorted({(numbers[id(cause)], cause.rule) for cause in causes(first, everything)}))[
                    :_CAUSES
                ],
            )
        )
    return tuple(folded)


def _says(finding: Finding) -> tuple[object, ...]:
    return finding.message, finding.where.step, finding.evidence.get("dataset_indices")


def place(told: Folded, world_size: int) -> str:
    """Return where the finding was made, in words, but for its module."""
    where = told.finding.where
    said = f"epoch {where.epoch}, step {where.step}"
    if world_size > 1:
        said += f", {'rank' if len(told.ranks) == 1 else 'ranks'} {', '.join(map(str, told.ranks))}"
    return said


def causes(effect: Finding, findings: Sequence[Finding]) -> list[Finding]:
    """Return those of ``findings`` that came no later and can have ``effect`` as their consequence.

    What asks for nothing is the cause of notes only. The program and its data were what they are from the first
    step on, whenever it was found.

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
