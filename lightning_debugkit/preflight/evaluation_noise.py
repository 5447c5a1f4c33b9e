"""Dropout that stays on in evaluation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lightning_debugkit.core.finding import Finding, Severity, Where
from lightning_debugkit.core.rule import Rule
from lightning_debugkit.preflight.loss_calls import ATTENTION, NoiseCall

STOCHASTIC_EVAL = Rule(
    "stochastic-eval",
    Severity.WARNING,
    "{op} is on while the model is evaluated, at {place}: {why}, and two evaluations of one sample differ",
    "{remedy}",
    section="preflight",
    cost="once",
)


def judge(calls: Sequence[NoiseCall], where: Where) -> Iterator[Finding]:
    """Yield each line of an evaluation step whose dropout nobody has switched off."""
    for call in {call.place.source: call for call in calls}.values():
        if call.op == ATTENTION:
            why = f"dropout_p={call.probability:g} holds in eval mode, too"
            remedy = "Pass dropout_p=self.dropout if self.training else 0.0."
        elif call.is_stray:
            why = "its module is built in forward or kept in a plain list, and never hears of eval mode"
            remedy = "Build nn.Dropout in __init__, as an attribute of the module or in an nn.ModuleList."
        else:
            why = "without its argument training it always drops"
            remedy = f"Pass training=self.training to {call.op}, or use the module nn.Dropout."
        module = call.place.module or ""
        yield STOCHASTIC_EVAL.found(
            where.at(module), op=call.op, place=call.place.short or call.op, why=why, remedy=remedy,
            source=call.place.source, probability=call.probability,
        )  # fmt: skip
