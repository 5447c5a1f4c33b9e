"""Rules that more than one callback can find to be broken."""

from __future__ import annotations

from lightning_debugkit.core.finding import Severity
from lightning_debugkit.core.rule import Rule

METRIC_DISAGREES = Rule(
    "metric-disagrees",
    Severity.WARNING,
    "{logged} was logged as {value:.4g}, the samples of this {stage} give {own:.4g}: {metric} still held {before} "
    "earlier updates",
    "Give each stage its own metric object, or reset {metric} when the {stage} begins. Log the object itself, and "
    "Lightning resets it.",
    section="error-analysis",
    cost="once",
)
# Of a metric that is followed and never logged: by the kit's own checkpoints, or by other people's callbacks.
MONITOR_MISSING = Rule(
    "monitor-missing",
    Severity.WARNING,
    "{metric} was not logged, so no file is kept for it so far; logged were {logged}",
    "Log it in validation_step with self.log({metric!r}, value), or name one that is logged.",
    section="checkpoints",
    cost="once",
)
