"""The rule for a metric that is not what the samples say, which several callbacks can find out."""

from __future__ import annotations

from lightning_debugkit.core.finding import Severity
from lightning_debugkit.core.rule import Rule

METRIC_DISAGREES = Rule(
    "metric-disagrees",
    Severity.WARNING,
    "{logged} was logged as {value:.4g}, the samples of this {stage} say {own:.4g}: {metric} held {before} updates of "
    "before",
    "Give each stage its own metric object, or reset {metric} when the {stage} begins. Log the object itself, and "
    "Lightning resets it.",
    section="error-analysis",
    cost="once",
)
