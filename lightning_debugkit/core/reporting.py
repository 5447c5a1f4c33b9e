"""Where findings go, and which rules are not reported."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, get_args

from lightning_debugkit.core.arguments import Needs, closest
from lightning_debugkit.core.callback import DebugCallback
from lightning_debugkit.core.finding import Finding
from lightning_debugkit.core.rule import DECLARED, every_rule
from lightning_debugkit.core.sinks import ToLoggers


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
        check("Reporting", on_finding, loggers, ignore)
        self.on_finding = on_finding
        self.loggers = loggers
        self.ignore = ignore


def check(owner: str, on_finding: Any, loggers: str, ignore: Sequence[str]) -> None:
    """Raise a `ValueError` unless these are arguments of a `Reporting`, which ``owner`` was given."""
    needs = Needs(owner)
    needs.one_of("loggers", loggers, get_args(ToLoggers), "leave it out for 'findings'")
    needs.function("on_finding", on_finding, "it is called with each finding")
    needs.that("ignore", not isinstance(ignore, str), "as a list of rules", ignore, "write [...] around it")
    if set(ignore) <= DECLARED.keys():
        return
    known = every_rule()
    unknown = next((name for name in ignore if name not in known), None)
    hint = closest(str(unknown), known, "`lightning-debugkit rules` lists them")
    needs.that("ignore", unknown is None, "to name rules", unknown, hint)
