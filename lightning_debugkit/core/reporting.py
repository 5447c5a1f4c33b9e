"""Where findings go, and which rules are not reported."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, get_args

from lightning_debugkit.core.arguments import Needs, closest
from lightning_debugkit.core.callback import DebugCallback
from lightning_debugkit.core.finding import Finding
from lightning_debugkit.core.rule import DECLARED, every_rule
from lightning_debugkit.core.sinks import ToLoggers

NEEDS = Needs("Reporting")


class Reporting(DebugCallback):
    """Say where findings go and which rules are not reported, for all callbacks of the kit in a Trainer.

    Without it the loggers get findings that call for action, and the report. ``debugkit()`` takes the same arguments.
    A place that fails is told of once, and gets nothing more in that run.

    Args:
        on_finding: Called with each `Finding`, of any severity, in the process that found it; or its dotted path.
        loggers: What the Trainer's loggers get: ``findings`` of ``warning`` and above and the report at the end,
            ``all`` adds norms of gradients, clip coefficients and the report's figures, ``none`` leaves them alone.
        ignore: Names of rules that are neither reported nor acted upon.

    Raises:
        ValueError: An argument is none of these, or there is no such rule or function.
    """

    def __init__(
        self,
        on_finding: Callable[[Finding], Any] | str | None = None,
        loggers: ToLoggers = "findings",
        ignore: Sequence[str] = (),
    ) -> None:
        NEEDS.one_of("loggers", loggers, get_args(ToLoggers), "leave it out for 'findings'")
        NEEDS.function("on_finding", on_finding, "it is called with each finding")
        check_rules(ignore)
        self.on_finding = on_finding
        self.loggers = loggers
        self.ignore = ignore


def check_rules(names: Sequence[str]) -> None:
    """Raise unless each name is that of a rule."""
    NEEDS.that("ignore", not isinstance(names, str), "as a list of rules", names, "write [...] around it")
    if set(names) <= DECLARED.keys():
        return
    known = every_rule()
    unknown = next((name for name in names if name not in known), None)
    hint = closest(str(unknown), known, "`lightning-debugkit rules` lists them")
    NEEDS.that("ignore", unknown is None, "to name rules", unknown, hint)
