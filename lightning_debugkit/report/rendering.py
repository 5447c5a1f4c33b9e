"""From a run folder to its report: the only file of the room that writes."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from lightning_debugkit.core.atomic_files import write_bytes
from lightning_debugkit.core.finding import Severity
from lightning_debugkit.core.journal import read_journal
from lightning_debugkit.report.number_formats import sentence
from lightning_debugkit.report.parts import Chapter, Details, Drawing, Paragraph, Part, Section
from lightning_debugkit.report.summary import Summary, summarize
from lightning_debugkit.report.to_html import html
from lightning_debugkit.report.to_json import as_json
from lightning_debugkit.report.to_markdown import markdown


def render(folder: str | os.PathLike[str]) -> Summary:
    """Write ``report.html``, ``report.md``, ``report.json`` and ``figures/`` into a run folder.

    What cannot be drawn or read is said in the report.

    Raises:
        FileNotFoundError: There is no journal in ``folder``.
        OSError: The report cannot be written.
    """
    folder = Path(folder)
    summary = summarize(read_journal(folder))
    chapters = compose(summary, folder)
    for chapter in chapters:
        for figure in chapter.figures:
            write_bytes(folder / figure.path, figure.svg.encode())
        for picture in chapter.pictures:
            write_bytes(folder / picture.path, picture.image)
    report = json.dumps(as_json(summary, chapters), indent=2, allow_nan=False)
    for name, text in (
        ("report.json", report + "\n"),
        ("report.md", markdown(summary, chapters)),
        ("report.html", html(summary, chapters)),
    ):
        write_bytes(folder / name, text.encode("utf-8", "replace"))  # a lone surrogate cannot be encoded
    return summary


def compose(summary: Summary, folder: Path, sections: Iterable[Section] | None = None) -> tuple[Chapter, ...]:
    """Return the sections that have something to show, filled in; by default all of ``report/sections/``."""
    if sections is None:
        from lightning_debugkit.report.sections import all_sections  # late: they need matplotlib

        sections = all_sections()
    chapters = [_chapter(section, summary, folder) for section in sorted(sections, key=lambda each: each.order)]
    kept = [chapter for chapter in chapters if chapter.parts or chapter.headline]
    return tuple(sorted(kept, key=lambda chapter: chapter.is_line or not chapter.is_open))


def _chapter(section: Section, summary: Summary, folder: Path) -> Chapter:
    parts = tuple(_parts(section, summary, folder))
    claimed = tuple(
        told
        for told in summary.findings
        if section.key and told.finding.section == section.key and section.claims(told.finding)
    )
    is_open = section.is_open or any(told.finding.severity >= Severity.WARNING for told in claimed)
    headline = ""
    if section.has_headline and parts and isinstance(parts[0], Paragraph) and not parts[0].is_problem:
        headline, parts = parts[0].text, parts[1:]
    return Chapter(section.title, parts, claimed, section.is_small, is_open, headline)


def _parts(section: Section, summary: Summary, folder: Path) -> Iterator[Part]:
    try:
        for part in section.parts(summary, folder):
            yield _filled(part)
    except Exception as error:  # a section that fails must not take the report with it
        yield _problem(f"The section “{section.title}” could not be completed", error)


def _filled(part: Part | Drawing) -> Part:
    if isinstance(part, Details):
        return Details(part.title, tuple(map(_filled, part.parts)))
    return _drawn(part) if isinstance(part, Drawing) else part


def _drawn(drawing: Drawing) -> Part:
    try:
        from lightning_debugkit.report.figures import drawn

        return drawn(drawing)
    except Exception as error:  # a figure that fails must not take the report with it
        return _problem(f"The figure “{drawing.title}” could not be drawn", error)


def _problem(said: str, error: Exception) -> Paragraph:
    return Paragraph(f"{said}: {type(error).__name__}: {sentence(str(error), 200)}.", is_problem=True)
