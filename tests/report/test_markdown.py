"""What Markdown and JSON show, and that nothing of the user's can break out of its place."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from lightning_debugkit.core.finding import Finding, Severity, Where
from lightning_debugkit.core.journal import Events, read_journal
from lightning_debugkit.report import Chapter, Paragraph, Summary, Table, as_json, html, markdown, render, summarize
from lightning_debugkit.report.parts import Cell
from lightning_debugkit.report.to_markdown import code_block, code_span

EVIL = "a|b <script>alert(1)</script> `tick` [link](x) *star*\n# head"


@pytest.fixture
def evil() -> Summary:
    evidence = {"op": EVIL, EVIL: EVIL, "source": f"{EVIL}:1: {EVIL}", "note": EVIL}
    finding = Finding("a-rule", Severity.ERROR, EVIL, Where(0, 1, module=EVIL), evidence, EVIL)
    info = replace(finding, severity=Severity.INFO)
    ended = {"v": 1, "kind": "end", "status": "exception", "exception": {"type": EVIL, "message": EVIL}, "step": 1}
    return summarize(Events([*({"v": 1, **each.to_event()} for each in (finding, info)), ended]))


def parts() -> Chapter:
    cells = (Cell(EVIL), Cell(EVIL, is_code=True), Cell(EVIL, is_marked=True))
    return Chapter(EVIL, (Paragraph(EVIL, is_problem=True), Table(EVIL, (EVIL, EVIL, EVIL), (cells,))))


def test_html_shows_the_text_of_users_as_text(evil: Summary) -> None:
    page = html(evil, [parts()])
    assert "<script" not in page
    assert page.count("&lt;script&gt;alert(1)&lt;/script&gt;") > 12


def test_markdown_keeps_text_out_of_html_and_tables(evil: Summary) -> None:
    text = markdown(evil, [parts()])
    outside = re.sub(r"(?ms)^(`{3,}).*?^\1$", "", text)
    outside = re.sub(r"(`+) ?.*?[^`]\1(?!`)", "", outside)
    assert "<script" not in outside
    assert "\n# head" not in outside
    rows = [line for line in text.splitlines() if line.startswith("| a\\|b") and "**" in line]
    assert [len(re.findall(r"(?<!\\)\|", row)) for row in rows] == [4]


@pytest.mark.parametrize(("text", "span"), [("a", "`a`"), ("a`b", "`` a`b ``"), ("`", "`` ` ``"), ("a\nb", "`a b`")])
def test_a_code_span_holds_any_backtick(text: str, span: str) -> None:
    assert code_span(text) == span


def test_a_code_block_holds_a_fence() -> None:
    assert code_block("```\nx\n```").splitlines()[0] == "````"


def test_notes_are_folded_away() -> None:
    note = Finding("seed-not-set", Severity.INFO, "no seed is set", Where(0, 0))
    summary = summarize(Events([{"v": 1, **note.to_event()}]))
    assert "<summary>Notes (1)</summary>" in markdown(summary)
    assert "<summary>Notes (1)</summary>" in html(summary)
    assert "## Findings" not in markdown(summary)


def test_ranks_are_told_only_where_there_are_several() -> None:
    finding = Finding("a-rule", Severity.ERROR, "it broke", Where(0, 4, rank=1))
    alone, both = replace(finding, where=Where(0, 4)), (finding, replace(finding, where=Where(0, 4)))
    told = [markdown(summarize(Events({"v": 1, **each.to_event()} for each in group))) for group in ((alone,), both)]
    assert "epoch 0, step 4\n" in told[0]
    assert "epoch 0, step 4, ranks 0, 1\n" in told[1]


def test_the_page_forbids_itself_to_load_or_run_anything(rich: Path) -> None:
    page = html(summarize(read_journal(rich)))
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', page)
    assert policy
    assert policy[1].startswith("default-src 'none'; img-src data:; style-src 'sha256-")
    assert not re.search(r"(src|href)=\"?(https?:)?//", page)


def test_json_is_strict_and_whole(rich: Path) -> None:
    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    render(rich)
    told = json.loads((rich / "report.json").read_text(), parse_constant=refuse)
    assert (told["v"], told["status"], told["steps"]) == (1, "exception", 60)
    assert len(told["findings"]) == len(read_journal(rich).findings)
    assert told["findings"][0]["evidence"]["loss"] == "inf"
    assert told["run"]["seed"] == 42
    assert [artifact["name"] for artifact in told["artifacts"]] == ["samples", "bundle"]
    assert all((rich / figure["path"]).is_file() for figure in told["figures"])
    assert "gradient-norms" in [figure["name"] for figure in told["figures"]]


def test_json_without_figures_needs_a_summary_only() -> None:
    assert as_json(summarize(Events()))["figures"] == []
