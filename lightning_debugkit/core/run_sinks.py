"""What becomes of the findings and the report of one run, by what the Trainer's `Reporting` says."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from lightning_debugkit.core.compat import Trainer, callbacks_of
from lightning_debugkit.core.console import Console, say
from lightning_debugkit.core.finding import Finding, Severity
from lightning_debugkit.core.logger_sinks import logger_sinks
from lightning_debugkit.core.secrets import secret_values, without_tokens
from lightning_debugkit.core.sinks import Call, Sink, Sinks

if TYPE_CHECKING:
    from lightning_debugkit.core.run import Run

_log = logging.getLogger("lightning_debugkit")


@dataclass
class RunSinks:
    """The places that findings go to, besides the journal."""

    console: Console
    loggers: Sinks
    others: Sinks
    ignored: frozenset[str] = frozenset()  # rules that are neither reported nor acted upon
    takes_all: bool = False  # the loggers take scalars and figures
    left_out: set[str] = field(default_factory=set)  # of the ignored rules, those that have found what calls for action

    def leave_out(self, finding: Finding, run: Run) -> bool:
        """Tell whether the rule is ignored; that it found what calls for action is journaled once, for the verdict."""
        if finding.rule not in self.ignored:
            return False
        if finding.severity >= Severity.WARNING and finding.rule not in self.left_out:
            self.left_out.add(finding.rule)
            run.append("ignored", rule=finding.rule, where=finding.to_event()["where"])
        return True

    def finding(self, finding: Finding, is_raised: bool = False) -> None:
        """Pass on a finding that is news; one that is about to be raised is not said on the terminal, too."""
        told = without_tokens([finding.message, finding.advice, dict(finding.evidence)], secret_values())
        finding = replace(finding, message=told[0], advice=told[1], evidence=told[2])
        if is_raised:
            self.console.leaves(finding)
        else:
            self.console.finding(finding)
        self.loggers.finding(finding)
        self.others.finding(finding)

    def ended(self, run: Run, report: Any, is_shown: bool) -> None:
        """Pass on the report, and say the last words.

        Args:
            report: Its `Report`, with a page in the run folder.
            is_shown: A notebook shows the verdict.
        """
        page, summary = run.folder / "report.html", report.summary
        for told in summary.findings:
            if run.rank not in told.ranks:  # only this process has loggers
                self.loggers.finding(told.finding)
        if self.loggers:
            self.loggers.artifact(page, report.figures if self.takes_all else {})
        remarks = (each.remark for each in summary.troubles if not each.is_lasting)
        last = self.console.ending(summary.verdict, report.findings, run.skipped)
        words = "\n  ".join(filter(None, [last, *remarks]))
        is_news, run.said = words != run.said, words
        if words and not is_shown and (summary.status != "exception" or self.console.says_exception):
            news = words if is_news else "the report has been brought up to date."
            say(f"lightning-debugkit: {news}\n  Report: {page}")


def sinks_of(trainer: Trainer, run: Run) -> RunSinks:
    """Return where the findings of a run go, made when something is told for the first time."""
    if run.sinks is None:
        run.sinks = _made(trainer, run)
    return run.sinks


def render_report(run: Run) -> None:
    """Render the report of a run, and pass it on."""
    # Late: matplotlib takes a second to import, and a run that goes well has no need of it before its end.
    from lightning_debugkit.report import Report, render
    from lightning_debugkit.report.read_report import show_in_notebook

    try:
        summary = render(run.folder)
    except Exception as error:
        _log.warning(
            f"lightning-debugkit could not render its report ({type(error).__name__}: {error}); "
            f"try: lightning-debugkit report {run.folder}"
        )
        return
    report = Report(run.folder, summary)
    if run.sinks is not None:
        run.sinks.ended(run, report, is_shown=show_in_notebook(report))


def _made(trainer: Trainer, run: Run) -> RunSinks:
    from lightning_debugkit.core.reporting import Reporting  # late: it is a callback itself

    def failed(sink: Sink, error: Exception) -> None:
        told = f"{type(error).__name__}: {error}"
        run.append("unsent", rank=run.rank, sink=str(sink), error=told)
        say(f"lightning-debugkit: {sink} failed ({told}); it is given nothing more in this run.")

    callbacks = callbacks_of(trainer)
    chosen = next((each for each in callbacks if isinstance(each, Reporting) and not each.gives_way(trainer)), None)
    settings = chosen or Reporting()
    takes_all = settings.loggers == "all"
    asked = trainer.loggers if trainer.is_global_zero and settings.loggers != "none" else []
    return RunSinks(
        Console(run.folder / ".said" if trainer.world_size > 1 else None),
        Sinks(logger_sinks(asked, takes_all, getattr(trainer, "log_every_n_steps", 1)), failed),
        Sinks([] if settings.on_finding is None else [Call(settings.on_finding)], failed),
        frozenset(settings.ignore),
        takes_all,
    )
