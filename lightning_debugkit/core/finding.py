"""What the kit says: a finding and its place."""

from __future__ import annotations

import enum
import re
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
        step: Optimizer steps taken before it: Lightning's ``global_step``, and those that it does not count.
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
        section: Where the report refers to it, empty if nowhere.
        can_follow: Rules that it can be a consequence of.
        on_data: It says something of the data, which a run without fault must name, too.
    """

    rule: str
    severity: Severity
    message: str
    where: Where
    evidence: Mapping[str, Any] = field(default_factory=dict)
    advice: str = ""
    section: str = ""
    can_follow: tuple[str, ...] = ()
    on_data: bool = False

    @property
    def line(self) -> str:
        """The user's line that it names, as ``train.py:28``; empty if it names none.

        >>> seen = {"source": "train.py:28: t = torch.log(wh)"}
        >>> Finding("nonfinite-activation", Severity.ERROR, "log gives NaN", Where(0, 3), seen).line
        'train.py:28'
        """
        named = re.match(r"[^:]+:\d+(?=: )", str(self.evidence.get("source", "")))
        return named[0] if named else ""

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
            **({"section": self.section} if self.section else {}),
            **({"can_follow": list(self.can_follow)} if self.can_follow else {}),
            **({"on_data": True} if self.on_data else {}),
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
                section=str(event.get("section", "")),
                can_follow=tuple(map(str, event.get("can_follow", ()))),
                on_data=event.get("on_data") is True,
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"Finding needs the fields of the journal's contract, got {event!r}.") from error
