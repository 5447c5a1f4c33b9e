"""From a run's journal to a page that says what went wrong, where, and what to do first."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lightning_debugkit.report.parts import Chapter, Code, Drawing, Figure, Paragraph, Section, Table
    from lightning_debugkit.report.read_report import Report, read_report
    from lightning_debugkit.report.rendering import render
    from lightning_debugkit.report.summary import Summary, summarize
    from lightning_debugkit.report.to_html import html
    from lightning_debugkit.report.to_json import as_json
    from lightning_debugkit.report.to_markdown import markdown

__all__ = [
    "Chapter",
    "Code",
    "Drawing",
    "Figure",
    "Paragraph",
    "Report",
    "Section",
    "Summary",
    "Table",
    "as_json",
    "html",
    "markdown",
    "read_report",
    "render",
    "summarize",
]

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


def __getattr__(name: str) -> Any:
    if name not in _ROOM:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_ROOM[name]}"), name)
