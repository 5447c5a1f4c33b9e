"""What the kit says: a finding, its place, and the rule that words it."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any


class Severity(enum.IntEnum):
    """How much a finding matters; comparable, so that a report can filter with ``>=``.

    Example:
        >>> Severity.WARNING < Severity.ERROR, str(Severity.ERROR), Severity.parse("info")
        (True, 'error', <Severity.INFO: 10>)
    """

    INFO = 10
    WARNING = 20
    ERROR = 30

    def __str__(self) -> str:
        return self.name.lower()

    @classmethod
    def parse(cls, name: str) -> Severity:
        """Return the severity called ``name``; raise ``ValueError`` if there is none."""
        try:
            return cls[name.upper()]
        except KeyError:
            raise ValueError(f"Severity needs one of info, warning, error, got {name!r}; check the journal.") from None


@dataclass(frozen=True)
class Where:
    """The place of a finding in the run.

    Args:
        epoch: Epoch, counted from 0.
        step: Optimizer steps taken before it (Lightning's ``global_step``).
        rank: Process of a distributed run that saw it.
        module: Dotted module or parameter path in the LightningModule, empty if none.
    """

    epoch: int
    step: int
    rank: int = 0
    module: str = ""

    def at(self, module: str) -> Where:
        """Return the same moment at another module."""
        return replace(self, module=module)


@dataclass(frozen=True)
class Finding:
    """One thing worth telling: what was seen, where, by which numbers, and what to do first.

    Args:
        rule: Stable name that users filter on.
        severity: How much it matters.
        message: One sentence with the numbers and places it is made of.
        where: Place in the run.
        evidence: Those numbers and places, by name.
        advice: What to do first.
    """

    rule: str
    severity: Severity
    message: str
    where: Where
    evidence: Mapping[str, Any] = field(default_factory=dict)
    advice: str = ""

    def to_event(self) -> dict[str, Any]:
        """Return the journal event of this finding, without its version."""
        where = {"epoch": self.where.epoch, "step": self.where.step, "rank": self.where.rank}
        return {
            "kind": "finding",
            "rule": self.rule,
            "severity": str(self.severity),
            "message": self.message,
            "where": {**where, "module": self.where.module},
            "evidence": dict(self.evidence),
            "advice": self.advice,
        }

    @classmethod
    def from_event(cls, event: Mapping[str, Any]) -> Finding:
        """Return the finding of a journal event; unknown fields of newer versions are passed over.

        Raises:
            ValueError: The event lacks a field of the contract or has one of another type.
        """
        try:
            where = event["where"]
            return cls(
                rule=str(event["rule"]),
                severity=Severity.parse(event["severity"]),
                message=str(event["message"]),
                where=Where(
                    epoch=int(where["epoch"]),
                    step=int(where["step"]),
                    rank=int(where.get("rank", 0)),
                    module=str(where.get("module", "")),
                ),
                evidence=dict(event.get("evidence", {})),
                advice=str(event.get("advice", "")),
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"Finding needs the fields of the journal's contract, got {event!r}.") from error


@dataclass(frozen=True)
class Rule:
    """A kind of fault that the kit can find, declared once beside the code that finds it.

    Args:
        name: Stable kebab-case name.
        severity: How much it matters, unless the finder says otherwise.
        says: The message; ``{name}`` and ``{name:.3g}`` are filled from the evidence and the place.
        advice: What to do first; filled likewise.

    Example:
        >>> hot = Rule("too-hot", Severity.WARNING, "{module} is at {degrees:.1f} degrees", "Cool {module}.")
        >>> finding = hot.found(Where(epoch=0, step=3, module="oven"), degrees=261.26)
        >>> finding.message, finding.advice
        ('oven is at 261.3 degrees', 'Cool oven.')
    """

    name: str
    severity: Severity
    says: str
    advice: str

    def found(self, where: Where, /, *, severity: Severity | None = None, **evidence: Any) -> Finding:
        """Return the finding of this rule at ``where``, its wording filled from ``evidence``."""
        names = {"epoch": where.epoch, "step": where.step, "rank": where.rank, "module": where.module, **evidence}
        return Finding(
            rule=self.name,
            severity=self.severity if severity is None else severity,
            message=self.says.format_map(names),
            where=where,
            evidence=evidence,
            advice=self.advice.format_map(names),
        )
