"""The report as one self-contained page."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence
from functools import cache
from importlib.resources import files

from jinja2 import Environment, FunctionLoader, StrictUndefined, Template
from markupsafe import Markup, escape

from lightning_debugkit.core.finding import Severity
from lightning_debugkit.report import evidence_rows
from lightning_debugkit.report.finding_order import place
from lightning_debugkit.report.palette import PALETTE
from lightning_debugkit.report.parts import Chapter, Figure
from lightning_debugkit.report.summary import Summary

_COLOR = re.compile(r'"(#[0-9a-f]{6})"')
_SIZE = re.compile(r'font-size="([\d.]+)"')
_VARIABLES = PALETTE.variables
_ENDED = {"exception": "ended by an exception", "unfinished": "no end on record"}


def html(summary: Summary, chapters: Sequence[Chapter] = (), status: str = "") -> str:
    """Return the page: it loads nothing, runs no script, and follows the reader's light or dark.

    Args:
        status: The line below the verdict; how many findings there are, and how the run ended, by default.
    """
    style = _shipped("style.css")
    pressing = summary.of(Severity.ERROR, Severity.WARNING)
    return _page().render(
        summary=summary,
        chapters=chapters,
        status=status or f"{summary.counts} · {_ENDED.get(summary.status, summary.course)} · {summary.last_step}",
        pressing=[told for told in pressing if not told.surplus],
        gravest=max((told.finding.severity for told in pressing), default=None),
        surplus=[told for told in pressing if told.surplus],
        infos=summary.of(Severity.INFO),
        evidence=evidence_rows,
        place=place,
        advice=lambda found: " ".join(found.advice.split()),
        data_uri=data_uri,
        inline=inline,
        kind=lambda part: type(part).__name__,
        style=Markup(style),  # our own file: none of the text of users
        style_hash=base64.b64encode(hashlib.sha256(style.encode()).digest()).decode(),
    )


def data_uri(image: bytes) -> str:
    """Return a PNG image as an address that holds it."""
    return f"data:image/png;base64,{base64.b64encode(image).decode()}"


def inline(figure: Figure) -> Markup:
    """Return a figure as an element of the page: its colours and its size of text are those of the page."""
    drawn = _COLOR.sub(
        lambda match: f'"var({_VARIABLES[match[1]]})"' if match[1] in _VARIABLES else match[0], figure.svg
    )
    drawn = _SIZE.sub(r'font-size="calc(\1px*var(--zoom))"', drawn)
    return Markup(drawn.replace("<svg ", f'<svg role="img" aria-label="{escape(figure.alt)}" ', 1))


@cache
def _page() -> Template:
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.loader = FunctionLoader(_shipped)
    return environment.get_template("page.html.j2")


def _shipped(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")
