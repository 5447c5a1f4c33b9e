"""Samples in the section on mistakes: pictures, texts, and those that are most confident."""

from __future__ import annotations

import re
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from report.error_analysis import mistakes
from report.error_analysis.sections import few, flat, report

from lightning_debugkit.core.journal import read_journal
from lightning_debugkit.report import summarize
from lightning_debugkit.report.error_analysis.analysis_file import AnalysisFile
from lightning_debugkit.report.error_analysis.sample_album import Album
from lightning_debugkit.report.parts import Gallery, Part
from lightning_debugkit.report.rendering import compose


def parts(folder: Path) -> list[Part]:
    """Return all parts of the section, folded ones too."""
    chapters = compose(summarize(read_journal(folder)), folder)
    found = next(chapter for chapter in chapters if "confuse" in chapter.title)
    return list(flat(found.parts))


def test_pictures_are_in_the_page_beside_what_was_said_of_them(tmp_path: Path) -> None:
    held = mistakes.of_digits(tmp_path)
    report(tmp_path, held)
    galleries = {part.title: part for part in parts(tmp_path) if isinstance(part, Gallery)}
    worst = galleries["Largest losses"].samples[0]
    first = held["top_losses"][0]
    assert worst.lines[:2] == (
        f"true: {mistakes.NAMES[first['target']]}",
        f"taken for {mistakes.NAMES[first['predicted']]}",
    )
    assert worst.lines[-1] == f"index {first['index']}"
    stored = np.asarray(Image.open(tmp_path / worst.path))
    shown = np.asarray(Image.open(BytesIO(worst.image)))
    assert shown.shape == (120, 120)
    assert (shown[::15, ::15] == stored).all()
    pair = held["most_confused"][0]
    both = galleries[f"{mistakes.NAMES[pair['target']]} and {mistakes.NAMES[pair['predicted']]}"]
    assert {sample.lines[0] for sample in both.samples} == {
        f"true: {mistakes.NAMES[pair[side]]}" for side in ("target", "predicted")
    }
    page = (tmp_path / "report.html").read_text()
    assert page.count("data:image/png") > sum(len(each.samples) for each in galleries.values())


def test_the_most_confident_mistakes_are_the_most_confident_and_mistakes(tmp_path: Path) -> None:
    held = mistakes.of_digits(tmp_path)
    held["top_losses"] += [{"target": 3, "predicted": 3, "confidence": 1.0, "loss": 0.1, "index": 7}]
    mistakes.write(tmp_path, held)
    [sure] = [part for part in parts(tmp_path) if isinstance(part, Gallery) and "most sure" in part.title]
    said = [float(re.sub(r"> | % sure", "", sample.lines[2])) for sample in sure.samples]
    largest = sorted((row["confidence"] for row in held["top_losses"][:-1]), reverse=True)[: len(said)]
    assert said == pytest.approx([100 * value for value in largest], abs=0.06)


def album(folder: Path, budget: int = 10**6, **pictures: str) -> Album:
    return Album(folder, AnalysisFile({"pictures": pictures, "samples": {"4": "x" * 5000}}), budget)


def test_pictures_that_are_broken_missing_or_elsewhere_are_left_out(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "torn.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    Image.new("L", (8, 8)).save(tmp_path / "secret.png")
    kept = album(folder, a="torn.png", b="missing.png", c="../secret.png", d=str(tmp_path / "secret.png"))
    assert [kept.sample(key, "said").image for key in "abcd"] == [b""] * 4
    assert kept.sample("a", "said").lines == ("said", "index a")


def test_large_pictures_are_reduced_and_the_budget_is_kept(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (900, 600, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "large.png")
    one = album(tmp_path, large="large.png").sample("large")
    assert Image.open(BytesIO(one.image)).size == (133, 200)
    kept = album(tmp_path, 3 * len(one.image), large="large.png")
    assert [bool(kept.sample("large").image) for _ in range(5)] == [True, True, True, False, False]


def test_texts_are_shown_as_such_and_cut(tmp_path: Path) -> None:
    sample = album(tmp_path).sample(4, "true: spam")
    assert (len(sample.text), sample.text[-2:], sample.image) == (600, "x…", b"")


def test_text_of_users_stays_text(tmp_path: Path) -> None:
    hostile = "<script>alert(1)</script>"
    held = few(
        classes=[hostile, "$x_{1$", "a|b"],
        samples={"5": hostile},
        top_losses=[{"target": 0, "predicted": 1, "index": 5, "loss": 3.0}],
        weak_slices=[
            {"conditions": {hostile: hostile}, "n": 3, "rate": 0.5, "low": 0.2, "high": 0.8, "rest_rate": 0.1}
        ],
        notes=[hostile],
    )
    text = report(tmp_path, held)
    page = (tmp_path / "report.html").read_text()
    assert hostile not in page
    assert "<blockquote>&lt;script&gt;alert(1)&lt;/script&gt;</blockquote>" in page
    assert hostile not in text
    assert "could not be" not in text


def test_what_is_long_is_folded_worst_class_first(tmp_path: Path) -> None:
    text = report(tmp_path, mistakes.of_many(300, 20_000))
    assert "<details><summary>The next 192 of 300 classes</summary>" in text
    assert "<details><summary>The next 42 pairs</summary>" in text
    recalls = [float(found) for found in re.findall(r"^\| n0[^|]+\| \d+ \| ([\d.]+) %", text, re.MULTILINE)]
    assert len(recalls) == 200
    assert recalls == sorted(recalls)
