"""The report as Markdown, for GitHub and for the terminal."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from lightning_debugkit.core.finding import Finding, Severity
from lightning_debugkit.report.evidence_rows import note, rows, source
from lightning_debugkit.report.finding_order import Folded, place
from lightning_debugkit.report.parts import (
    Cell,
    Chapter,
    Code,
    Details,
    Drawing,
    Figure,
    Gallery,
    Heading,
    Paragraph,
    Part,
    SamplePart,
    Table,
)
from lightning_debugkit.report.summary import Summary

_MOST_AGAIN = 12
# An underscore inside a word (training_step) is no emphasis: reports are read raw too.
_SPECIAL = re.compile(r"([\\`*\[~$|])|((?<!\w)_|_(?!\w))")


def markdown(summary: Summary, chapters: Sequence[Chapter] = ()) -> str:
    """Return the report; figures are referred to by their path in the run folder."""
    blocks = [
        *_top(summary, chapters),
        *_findings(summary),
        *(block for chapter in chapters for block in _chapter(chapter, summary)),
    ]
    return "\n\n".join(blocks) + "\n"


def escaped(text: str) -> str:
    """Return ``text`` on one line, so that it reads as itself.

    >>> print(escaped("<b> of *x* in training_step"))
    &lt;b> of \\*x\\* in training_step
    """
    line = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;")
    return _SPECIAL.sub(lambda match: f"\\{match[0]}", line)


def code_span(text: str) -> str:
    """Return ``text`` as code within a line, whatever backticks it holds."""
    line = " ".join(text.split())
    fence = _fence(line, least=1)
    pad = " " if "`" in line else ""
    return f"{fence}{pad}{line}{pad}{fence}" if line else ""


def code_block(text: str, language: str = "") -> str:
    """Return ``text`` as lines of code, whatever backticks it holds."""
    fence = _fence(text, least=3)
    return f"{fence}{language}\n{text}\n{fence}"


def _fence(text: str, least: int) -> str:
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    return "`" * max(least, longest + 1)


def _table(header: Sequence[str], lines: Iterable[Sequence[Cell]]) -> str:
    lines = list(lines)
    # GitHub needs a header, and one that is as wide as the rows.
    names = list(header) or ["", *[""] * (max((len(line) for line in lines), default=1) - 1)]
    body = ["| " + " | ".join(map(_cell, line)) + " |" for line in lines]
    head = "| " + " | ".join(map(escaped, names)) + " |"
    return "\n".join([head, "|" + " --- |" * len(names), *body])


def _cell(cell: Cell) -> str:
    # GitHub splits cells before it reads code spans: a bar in code is escaped too.
    said = code_span(cell.text).replace("|", "\\|") if cell.is_code else escaped(cell.text)
    return f"**{said}**" if cell.is_marked and said else said


def _top(summary: Summary, chapters: Sequence[Chapter]) -> Iterator[str]:
    yield "# " + escaped(summary.verdict)
    if summary.start_here:
        yield f"**Start here:** {escaped(summary.start_here)}"
    yield from (escaped(chapter.headline) for chapter in chapters if chapter.headline)
    yield f"{summary.counts}; status: {escaped(summary.course)}."
    if summary.other_exception:
        yield f"Exception: {code_span(summary.other_exception)}"
    for remark in summary.remarks:
        yield f"> {escaped(remark)}"


def _findings(summary: Summary) -> Iterator[str]:
    pressing = summary.of(Severity.ERROR, Severity.WARNING)
    plain = [told for told in pressing if not told.surplus]
    surplus = [told for told in pressing if told.surplus]
    if plain:
        yield "## Findings"
    for told in plain:
        yield from _finding(told, summary)
    for name, folded in (("More of the same", surplus), ("Notes", summary.of(Severity.INFO))):
        if folded:
            yield f"<details><summary>{name} ({len(folded)})</summary>"
            for told in folded:
                yield from _finding(told, summary)
            yield "</details>"


def _finding(told: Folded, summary: Summary) -> Iterator[str]:
    finding = told.finding
    said = code_span(finding.rule) if summary.tells(finding) else escaped(finding.message)
    yield f"### {told.number}. {finding.severity}: {said}"
    if summary.tells(finding) and summary.untold(finding):
        yield escaped(summary.untold(finding))
    module = f", {code_span(finding.where.module)}" if finding.where.module else ""
    rule = "At" if summary.tells(finding) else f"{code_span(finding.rule)} at"
    yield f"{rule} {place(told, summary.world_size)}{module}"
    where, line = source(finding.evidence)
    if line:
        yield from ([f"In {code_span(where)}:"] if where else [])
        yield code_block(line, "python")
    if finding.advice and " ".join(finding.advice.split()) != summary.start_here:
        yield f"**Do first:** {escaped(finding.advice)}"
    if told.causes:
        yield "Can come of " + ", ".join(f"#{number} {rule}" for number, rule in told.causes) + ": mend that first."
    if note(finding.evidence):
        yield escaped(note(finding.evidence))
    table = [(Cell(row.label), Cell(row.text, row.is_code, row.is_nonfinite)) for row in rows(finding)]
    if table:
        yield _table(("evidence", ""), table)
    if told.others:
        yield "Also seen:\n\n" + "\n".join(map(_again, told.others[:_MOST_AGAIN]))


def _again(finding: Finding) -> str:
    return f"- step {finding.where.step}, rank {finding.where.rank}: {escaped(finding.message)}"


def _chapter(chapter: Chapter, summary: Summary) -> Iterator[str]:
    if not chapter.parts:
        return
    if chapter.is_line:
        yield f"**{escaped(chapter.title)}:** {escaped(chapter.line)}"
    elif chapter.is_open:
        yield f"## {escaped(chapter.title)}"
        yield from _body(chapter, summary)
    else:
        line = f" {escaped(chapter.line)}" if chapter.line else ""
        yield f"<details><summary><b>{escaped(chapter.title)}</b>{line}</summary>"
        yield from _body(chapter, summary)
        yield "</details>"


def _body(chapter: Chapter, summary: Summary) -> Iterator[str]:
    if chapter.findings and len(summary.findings) > 1:
        yield "Findings here: " + ", ".join(f"#{told.number} {told.finding.rule}" for told in chapter.findings)
    for part in chapter.below:
        yield from _part(part)


def _part(part: Part | Drawing) -> Iterator[str]:
    match part:
        case Paragraph():
            yield f"> {escaped(part.text)}" if part.is_problem else escaped(part.text)
        case Heading():
            yield f"### {escaped(part.text)}"
        case Code():
            yield from ([escaped(part.before)] if part.before else [])
            yield code_block(part.text, "sh")
        case Table():
            yield f"**{escaped(part.caption)}**"
            yield _table(part.header, part.rows)
        case Figure():
            yield from _captioned(part.title, _image(part.alt, part.path), part.caption)
        case Gallery():
            yield from _captioned(part.title, "\n".join(map(_sample, part.samples)), part.caption)
        case Details():
            yield f"<details><summary>{escaped(part.title)}</summary>"
            yield from (block for inner in part.parts for block in _part(inner))
            yield "</details>"
        case Drawing():
            pass  # a chapter holds figures


def _captioned(title: str, shown: str, caption: str) -> Iterator[str]:
    yield f"**{escaped(title)}**"
    yield shown
    if caption:
        yield escaped(caption)


def _image(alt: str, path: str) -> str:
    words = escaped(alt).replace("]", "\\]")
    return f"![{words}]({path})"


def _sample(sample: SamplePart) -> str:
    told = "; ".join(sample.lines)
    shown = f"{_image(told, f'<{sample.path}>')} " if sample.image else ""
    return f"- {shown}{escaped(told)}" + (f": “{escaped(sample.text)}”" if sample.text else "")
