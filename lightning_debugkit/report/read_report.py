"""A run's report as an object: findings to work with, figures to restyle, and a verdict that a notebook shows."""

from __future__ import annotations

import importlib
import os
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import escape

from lightning_debugkit.core.finding import Finding, Severity
from lightning_debugkit.core.journal import read_journal
from lightning_debugkit.core.notebooks import shell
from lightning_debugkit.report.experiments import newest
from lightning_debugkit.report.summary import Summary, summarize

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SHOWN = 5
_COLORS = {Severity.ERROR: "#c8281e", Severity.WARNING: "#c77700", Severity.INFO: "#7b8794"}
_WELL = "#2e8b57"
_shown: dict[Path, str] = {}  # by run folder


class Report:
    """What a run left, read from its journal; the last line of a notebook's cell shows the verdict.

    Args:
        summary: What its journal says, if that has been read already.

    Raises:
        FileNotFoundError: There is no journal in ``folder``.
    """

    def __init__(self, folder: Path, summary: Summary | None = None) -> None:
        self.folder = folder
        self.summary: Summary = summarize(read_journal(folder)) if summary is None else summary

    @property
    def verdict(self) -> str:
        """The one sentence to read if only one is read."""
        return self.summary.verdict

    @property
    def start_here(self) -> str:
        """What to do first, empty if nothing."""
        return self.summary.start_here

    @property
    def findings(self) -> list[Finding]:
        """What was found: the gravest first, then the earliest, but none before what can have caused it."""
        return [told.finding for told in self.summary.findings]

    @cached_property
    def figures(self) -> dict[str, Figure]:
        """The figures of the report by name, as `matplotlib` figures of your own: restyle them, save them."""
        from lightning_debugkit.report.figures import own_settings
        from lightning_debugkit.report.parts import Drawing, unfolded
        from lightning_debugkit.report.sections import all_sections

        with own_settings():
            return {
                part.name: part.draw()
                for section in all_sections()
                for part in unfolded(section.parts(self.summary, self.folder))
                if isinstance(part, Drawing)
            }

    def to_pandas(self) -> Any:
        """Return the findings as a `pandas.DataFrame`, a row each.

        Raises:
            ImportError: pandas is not installed.
        """
        try:
            pandas = importlib.import_module("pandas")
        except ImportError as error:
            raise ImportError("Report.to_pandas needs pandas; pip install pandas, or use Report.findings.") from error
        names = ["rule", "severity", "step", "epoch", "rank", "module", "message", "advice"]
        rows = [
            [f.rule, str(f.severity), f.where.step, f.where.epoch, f.where.rank, f.where.module, f.message, f.advice]
            for f in self.findings
        ]
        return pandas.DataFrame(rows, columns=names)

    def __repr__(self) -> str:
        return f"<Report of {self.folder}: {self.verdict}>"

    def _repr_html_(self) -> str:
        """Return verdict, advice and the first findings for a notebook, in the colours of the notebook."""
        summary = self.summary
        pressing = summary.of(Severity.ERROR, Severity.WARNING)
        worst = max((told.finding.severity for told in pressing), default=None)
        color = _COLORS[worst] if worst is not None else _WELL if summary.is_green else _COLORS[Severity.INFO]
        lines = [f'<p style="margin:0 0 .4em"><b>{escape(summary.verdict)}</b></p>']
        if summary.start_here:
            lines.append(f'<p style="margin:0 0 .4em"><b>Start here:</b> {escape(summary.start_here)}</p>')
        rest = [told for told in pressing if not summary.tells(told.finding)]
        items = (
            f'<li><span style="color:{_COLORS[told.finding.severity]}">{told.finding.severity}</span> '
            f"{escape(told.finding.message)}</li>"
            for told in rest[:_SHOWN]
        )
        if rest:
            lines.append(f'<ul style="margin:0 0 .4em">{"".join(items)}</ul>')
        where = self.folder / "report.html"
        lines.append(f'<p style="margin:0;opacity:.7">{escape(summary.counts)}; report: {escape(where)}</p>')
        return f'<div style="border-left:4px solid {color};padding:.2em 1em">{"".join(lines)}</div>'


def read_report(path: str | os.PathLike[str]) -> Report:
    """Return the report of a run.

    Args:
        path: A run folder, a file in it such as ``report.html``, or any folder above runs: then it is the newest.

    Raises:
        FileNotFoundError: No run left a journal there.
    """
    given = Path(path)
    return Report(newest(given.parent if given.is_file() else given)[0])


def show_in_notebook(report: Report) -> bool:
    """Show a verdict as rich output where a notebook runs, once, and tell whether it is there: a terminal has none."""
    if getattr(shell(), "kernel", None) is None:
        return False
    from IPython.display import display

    told = report._repr_html_()
    if _shown.get(report.folder) != told:  # an exception is followed by an end: the report is written again
        _shown[report.folder] = told
        display(report)  # type: ignore[no-untyped-call]  # IPython leaves it untyped
    return True
