"""A report is written for every journal, whatever is torn, missing or foreign, and each file whole."""

import base64
import io
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import matplotlib.figure
import pytest
from PIL import Image, ImageColor
from report.conftest import END, LOSS

from lightning_debugkit.core import atomic_files
from lightning_debugkit.core.atomic_files import write_bytes
from lightning_debugkit.core.journal import read_journal
from lightning_debugkit.report import Drawing, Paragraph, Section, Summary, markdown, render, summarize
from lightning_debugkit.report.palette import RED
from lightning_debugkit.report.rendering import compose
from lightning_debugkit.report.sections import all_sections

Writer = Callable[..., Path]
FILES = ("report.html", "report.md", "report.json")


def test_a_run_leaves_all_files_and_no_draft(rich: Path) -> None:
    render(rich)
    assert all((rich / name).stat().st_size for name in FILES)
    assert (rich / "figures" / "loss.svg").read_text().startswith("<svg ")
    assert not list(rich.rglob("*.tmp"))


def test_rendering_again_writes_the_same(rich: Path) -> None:
    render(rich)
    first = [(rich / name).read_bytes() for name in FILES]
    render(rich)
    assert [(rich / name).read_bytes() for name in FILES] == first


@pytest.mark.parametrize(
    "line",
    [
        "",
        "not json",
        '{"v": 1, "kind": "end"}',
        '{"v": 9, "kind": "run", "versions": [1], "config": [2], "commit": 3}',
        '{"v": 1, "kind": "measure", "name": "loss", "step": 1, "value": {"a": []}}',
        '{"v": 1, "kind": "measure", "name": "gradient-norms", "step": 1, "value": 3}',
        '{"v": 1, "kind": "artifact", "name": "samples", "path": 3, "step": "x", "samples": {}}',
        '{"v": 1, "kind": "artifact", "name": "samples", "path": "a\\u0000b.npz"}',
        '{"v": 1, "kind": "run", "config": {"name": "\\udc80"}}',
        '{"v": 1, "kind": "measure", "name": "loss", "step": 1, "value": NaN}',
        '{"v": 1, "kind": "finding", "rule": "r", "severity": "error", "message": "\\udc80",'
        ' "where": {"epoch": 0, "step": 1, "module": "\\udc80"}, "evidence": {"source": [null, {"a": NaN}]}}',
    ],
)
def test_a_journal_of_one_odd_line_renders(tmp_path: Path, line: str) -> None:
    (tmp_path / "journal-0.jsonl").write_text(line + "\n")
    render(tmp_path)
    assert all((tmp_path / name).stat().st_size for name in FILES)


def test_no_journal_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="journal-<rank>"):
        render(tmp_path)


def _tear(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def _garble(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[200:5000] = b"\xff" * 4800
    file.write_bytes(data)


@pytest.mark.parametrize("spoil", [_tear, _garble, Path.unlink], ids=["torn", "garbled", "missing"])
def test_samples_that_cannot_be_read_are_said(rich: Path, spoil: Callable[[Path], None]) -> None:
    spoil(rich / "samples" / "step-24.npz")
    render(rich)
    assert "cannot be shown" in (rich / "report.md").read_text()
    assert "lightning-debugkit replay bundles/step-24" in (rich / "report.md").read_text()


def test_a_bundle_that_is_gone_is_said(rich: Path) -> None:
    (rich / "bundles" / "step-24").rmdir()
    render(rich)
    assert "bundles/step-24 is no longer in the run folder." in (rich / "report.md").read_text()


def test_a_bundle_with_a_hostile_name_is_quoted(journal: Writer) -> None:
    folder = journal({"kind": "artifact", "name": "bundle", "path": "a b; rm x", "step": 1})
    render(folder)
    assert "lightning-debugkit replay 'a b; rm x'" in (folder / "report.md").read_text()


def test_a_figure_that_fails_is_named_and_the_next_is_drawn(journal: Writer) -> None:
    def broken() -> matplotlib.figure.Figure:
        raise ZeroDivisionError("no ink")

    def parts(_summary: Summary, _folder: Path) -> Iterator[Drawing]:
        yield Drawing("first", "First", "none", broken)
        yield Drawing("second", "Second", "an empty figure", matplotlib.figure.Figure)
        raise KeyError("rest")

    folder = journal({"kind": "end", "status": "finished", "step": 1})
    summary = summarize(read_journal(folder))
    chapters = compose(summary, folder, [Section("Mine", 1, parts)])
    text = markdown(summary, chapters)
    assert "The figure “First” could not be drawn: ZeroDivisionError: no ink." in text
    assert "(figures/second.svg)" in text
    assert "The section “Mine” could not be completed: KeyError: 'rest'." in text


def test_a_section_is_placed_by_its_order_and_names_its_findings(rich: Path) -> None:
    def parts(_summary: Summary, _folder: Path) -> list[Paragraph]:
        return [Paragraph("All is dead.")]

    mine = Section("Activations", 15, parts, key="activations")
    summary = summarize(read_journal(rich))
    chapters = compose(summary, rich, [*all_sections(), mine])
    assert [chapter.title for chapter in chapters][:3] == ["Loss", "Activations", "The samples"]
    assert {told.finding.rule for told in chapters[1].findings} == {"dead-units"}


def test_what_the_verdict_says_is_said_once(journal: Writer) -> None:
    broke = {"type": "TrainingAnomaly", "message": f"nonfinite-loss: {LOSS.message}"}
    folder = journal(LOSS, {**END, "status": "exception", "exception": broke})
    render(folder)
    for name in ("report.md", "report.html"):
        text = (folder / name).read_text()
        body = text.partition("</title>")[2] or text
        assert body.count("log(0) in training") == 1, name
        assert body.count("drop such boxes in the Dataset") == 1, name
    assert "batch_idx" in (folder / "report.json").read_text()


def test_an_exception_that_no_finding_tells_is_shown(journal: Writer) -> None:
    foreign = {"type": "KeyError", "message": "'label'"}
    folder = journal(LOSS, {**END, "status": "exception", "exception": foreign})
    render(folder)
    assert "KeyError: 'label'" in (folder / "report.md").read_text()


def test_what_is_well_folds_and_what_has_a_sentence_to_say_is_a_line(rich: Path) -> None:
    chapters = compose(summarize(read_journal(rich)), rich)
    assert [chapter.title for chapter in chapters if chapter.is_open] == [
        "Loss",
        "The samples",
        "Run the failing step again",
    ]
    gradients = next(chapter for chapter in chapters if chapter.title == "Gradients")
    assert gradients.line.startswith("Gradient norms of 39 parameters")
    render(rich)
    page = (rich / "report.html").read_text()
    links = re.findall(r'<a href="#(chapter-\d+)">', page)
    assert len(links) == 3  # what is open; what folds is seen without a list
    assert all(f'id="{link}"' in page for link in links)


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_self: Path, _data: bytes) -> int:
        raise OSError("No space left on device")

    target = tmp_path / "report.md"
    write_bytes(target, b"old")
    monkeypatch.setattr(atomic_files, "_write", full)
    with pytest.raises(OSError, match="No space"):
        write_bytes(target, b"new")
    assert target.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["report.md"]


def test_a_large_run_renders_in_seconds_and_stays_small(large: Path) -> None:
    began = time.perf_counter()
    render(large)
    assert time.perf_counter() - began < 10  # 1 s on a calm machine
    assert (large / "report.html").stat().st_size < 400_000
    assert "60 of 199 parameters are shown" in (large / "report.md").read_text()


def test_a_figure_is_drawn_once_and_its_cells_are_one_picture(large: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = []
    save = matplotlib.figure.Figure.savefig

    def counted(self: matplotlib.figure.Figure, *given: Any, **named: Any) -> None:
        drawn.append(self)
        save(self, *given, **named)

    monkeypatch.setattr(matplotlib.figure.Figure, "savefig", counted)
    chapters = compose(summarize(read_journal(large)), large)
    figures = [each for chapter in chapters for each in chapter.figures]
    assert len(drawn) == len(figures)
    norms = next(each.svg for each in figures if each.name == "gradient-norms")
    first = re.search(r'href="data:image/png;base64,([^"]+)"', norms)
    assert first
    with Image.open(io.BytesIO(base64.b64decode(first[1]))) as image:
        assert image.size[1] == 60
        assert 200 < image.size[0] < 500
        colors = {color: count for count, color in image.convert("RGB").getcolors(100_000) or []}
    assert colors[ImageColor.getrgb(RED)] == 2  # of two layers at one step
    assert len(norms) < 60_000


def test_reports_need_neither_torch_nor_pyplot(rich: Path) -> None:
    code = (
        "import sys; from lightning_debugkit.report import render; render(sys.argv[1]);"
        "print(sorted({'torch', 'lightning', 'matplotlib.pyplot'} & set(sys.modules)))"
    )
    told: Any = subprocess.run([sys.executable, "-c", code, rich], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "[]"
