"""A program of a user, checked by mypy with the package and never run: what is wrong must be rejected."""

from typing import Any

import lightning.pytorch as pl

from lightning_debugkit import (
    Finding,
    GradientAnomalyDetector,
    NestedCheckpoint,
    Reporting,
    Severity,
    debugkit,
    load_model,
    read_journal,
    read_report,
)
from lightning_debugkit.checkpoints import Best, Every, Latest


def alert(finding: Finding) -> None:
    if finding.severity >= Severity.WARNING:
        print(finding.rule, finding.where.step, finding.evidence.get("source"))


callbacks: list[pl.Callback] = debugkit(
    "thorough", on_finding=alert, loggers="all", ignore=["no-gradient"], action="warn"
)
trainer = pl.Trainer(callbacks=callbacks)
more = pl.Trainer(
    callbacks=[
        GradientAnomalyDetector(action="skip", max_skips=5),
        Reporting(on_finding=alert),
        NestedCheckpoint(rules=[Every(steps=5000), Best("val_loss", k=3), Latest()]),
    ]
)
rules: list[str] = [finding.rule for finding in read_journal("runs/debugkit").findings]
verdict: str = read_report("runs").verdict
model: Any = load_model("best.ckpt", code="snapshot", trust_code=True)

# What mypy must refuse: it tells of an ignore that is not needed.
debugkit("heavy")  # type: ignore[arg-type]
debugkit(loggers="some")  # type: ignore[arg-type]
GradientAnomalyDetector(action="explode")  # type: ignore[arg-type]
Reporting(on_finding=3)  # type: ignore[arg-type]
