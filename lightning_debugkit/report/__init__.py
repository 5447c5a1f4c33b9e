"""From a run's journal to a page that says what went wrong, where, and what to do first."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lightning_debugkit.report.parts import Chapter as Chapter
    from lightning_debugkit.report.parts import Code as Code
    from lightning_debugkit.report.parts import Drawing as Drawing
    from lightning_debugkit.report.parts import Figure as Figure
    from lightning_debugkit.report.parts import Paragraph as Paragraph
    from lightning_debugkit.report.parts import Section as Section
    from lightning_debugkit.report.parts import Table as Table
    from lightning_debugkit.report.read_report import Report as Report
    from lightning_debugkit.report.read_report import read_report as read_report
    from lightning_debugkit.report.rendering import render as render
    from lightning_debugkit.report.summary import Summary as Summary
    from lightning_debugkit.report.summary import summarize as summarize
    from lightning_debugkit.report.to_html import html as html
    from lightning_debugkit.report.to_json import as_json as as_json
    from lightning_debugkit.report.to_markdown import markdown as markdown

_ROOM = {
    **dict.fromkeys(("Chapter", "Code", "Drawing", "Figure", "Paragraph", "Section", "Table"), "parts"),
    "Report": "read_report",
    "Summary": "summary",
    "as_json": "to_json",
    "html": "to_html",
    "markdown": "to_markdown",
    "read_report": "read_report",
    "render": "rendering",
    "summarize": "summary",
}
__all__ = [*_ROOM]


def __getattr__(name: str) -> Any:
    if name not in _ROOM:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_ROOM[name]}"), name)
