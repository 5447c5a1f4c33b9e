"""A metric that is followed and never logged: said of the kit's own checkpoints and of other people's callbacks."""

from __future__ import annotations

from lightning_debugkit.core.finding import Severity
from lightning_debugkit.core.rule import Rule

MONITOR_MISSING = Rule(
    "monitor-missing",
    Severity.WARNING,
    "{metric} was not logged, so that no file is kept for it so far; logged are {logged}",
    "Log it in validation_step with self.log({metric!r}, value), or name one that is logged.",
    section="checkpoints",
    cost="once",
)
