"""The exception by which a finding ends a training."""

from __future__ import annotations

from typing import Any

from lightning_debugkit.core.finding import Finding


class TrainingAnomaly(RuntimeError):
    """Training was stopped because of a finding; the weights are those of before the step.

    Args:
        finding: What was found.
        report: Path of the report.
    """

    def __init__(self, finding: Finding, report: str = "") -> None:
        self.finding = finding
        self.report = report
        source = finding.evidence.get("source")
        lines = [f"{finding.rule}: {finding.message}", f"  at {source}" if source else "", f"  {finding.advice}"]
        super().__init__("\n".join([*filter(None, lines), f"  Report: {report}" if report else ""]).rstrip())

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.finding, self.report)


def as_event(exception: BaseException | None) -> dict[str, str] | None:
    """Return type and message of ``exception``; of our own only the first line, as the rest is in its finding."""
    if exception is None:
        return None
    message = str(exception)
    if isinstance(exception, TrainingAnomaly):
        message = message.partition("\n")[0]
    return {"type": type(exception).__name__, "message": message}
