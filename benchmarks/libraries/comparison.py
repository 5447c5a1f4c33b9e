"""What a program did under the kit, beside what it did without."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from benchmarks.faults.scoring import score
from benchmarks.libraries.library import Program
from lightning_debugkit import Finding

Outcome = Mapping[str, Any]
_LOUD = ("warning", "error")


@dataclass(frozen=True)
class Row:
    """One program under one preset.

    Args:
        same_end: It ended as without the kit: finished, or with an exception of the same kind.
        same_weights: All final weights are equal to the bit.
        same_random: So are the states of the generators of Python, NumPy and torch.
        repeatable: Two runs without the kit agree; where they do not, nothing can be said of equality.
        kit_in_traceback: An exception reached the user through the kit.
        ended: ``finished``, or the exception with the kit.
        fits: Journals that the kit left; without one, nothing was watched.
        accusations: Findings of a healthy training, warnings and errors, that are not declared true.
        true: Those that are.
        named: The first finding, or the report's first, names a planted fault's cause; None for a healthy training.
        first: The rules of the findings of a planted fault, in order.
        seconds: CPU seconds with the kit less those without, imports left in both.
    """

    library: str
    program: str
    preset: str
    same_end: bool
    same_weights: bool
    same_random: bool
    repeatable: bool
    kit_in_traceback: bool
    ended: str
    fits: int = 0
    accusations: list[str] = field(default_factory=list)
    true: list[str] = field(default_factory=list)
    troubles: list[str] = field(default_factory=list)
    named: bool | None = None
    first: list[str] = field(default_factory=list)
    causes: list[str] = field(default_factory=list)
    seconds: float = 0.0
    bare_seconds: float = 0.0

    @property
    def is_same(self) -> bool:
        return self.same_end and self.same_weights and self.same_random

    def as_dict(self) -> dict[str, Any]:
        return asdict(self) | {"same": self.is_same}


def compare(library: str, program: Program, preset: str, bare: Outcome, again: Outcome | None, kit: Outcome) -> Row:
    """Return the row of ``program``.

    Args:
        library: Name of the library.
        program: What was run.
        preset: The preset of ``kit``.
        bare: The outcome without the kit.
        again: Another such outcome, if one was made.
        kit: The outcome with the kit.
    """
    loud = [finding for finding in kit.get("findings", []) if finding["severity"] in _LOUD]
    told = [f"{finding['rule']}: {finding['message']}" for finding in loud]
    is_true = [finding["rule"] in program.true for finding in loud]
    return Row(
        library=library,
        program=program.name,
        preset=preset,
        same_end=bare["ended"] == kit["ended"],
        same_weights=bare.get("weights") == kit.get("weights"),
        same_random=bare.get("random") == kit.get("random"),
        repeatable=again is None or is_equal(bare, again),
        kit_in_traceback=bool(kit.get("kit_in_traceback")),
        ended=kit["ended"],
        fits=kit.get("runs", 0),
        accusations=[] if program.is_fault else [text for text, true in zip(told, is_true, strict=True) if not true],
        true=[] if program.is_fault else [text for text, true in zip(told, is_true, strict=True) if true],
        troubles=[
            f"{event.get('callback')}.{event.get('hook')}: {event.get('error')}" for event in kit.get("troubles", [])
        ],
        named=names_the_cause(program, kit) if program.is_fault else None,
        first=[finding["rule"] for finding in loud] if program.is_fault else [],
        causes=sorted(program.causes),
        seconds=round(kit.get("cpu_seconds", 0.0) - bare.get("cpu_seconds", 0.0), 2),
        bare_seconds=round(bare.get("cpu_seconds", 0.0), 2),
    )


def is_equal(one: Outcome, other: Outcome) -> bool:
    """Whether both ended in the same way, with the same weights and random states."""
    return all(one.get(key) == other.get(key) for key in ("ended", "weights", "random"))


def names_the_cause(program: Program, outcome: Outcome) -> bool:
    """Whether the first finding, or the one that the report begins with, names the cause of the fault."""
    findings = [Finding.from_event(event) for event in outcome.get("findings", [])]
    return score(findings, sorted(program.causes), None).diagnosed
