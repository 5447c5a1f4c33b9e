"""The section on mistakes, from a run folder alone: real predictions, five classes and a thousand, and broken files."""

from __future__ import annotations

import functools
import html
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from declared import as_declared
from report.error_analysis import mistakes
from report.error_analysis.sections import few, flat, report
from report.test_browser import FRAME, browse, needs_browser
from sklearn.metrics import confusion_matrix

from lightning_debugkit.core.finding import Finding, Severity, Where
from lightning_debugkit.core.journal import Journal, read_journal
from lightning_debugkit.report import render, summarize
from lightning_debugkit.report.error_analysis import matrix, sample_album
from lightning_debugkit.report.error_analysis.analysis_file import AnalysisFile
from lightning_debugkit.report.error_analysis.chapter import chapter
from lightning_debugkit.report.rendering import compose


def test_the_verdict_has_accuracy_interval_and_the_most_frequent_confusion(tmp_path: Path) -> None:
    text = report(tmp_path, few())
    found = mistakes.wilson(17, 24)
    interval = f"95 % interval {100 * found['low']:.1f} to {100 * found['high']:.1f}"
    assert f"</b> 24 samples: 70.8 % right ({interval}), 7 mistakes.</summary>" in text
    assert "\n\nMost often bird is taken for dog: 4 times, " in text
    assert text.count("24 samples: 70.8 % right") == 1
    assert "57.1 % of all mistakes." in text
    assert "Always answering the most frequent class would be right in 41.7 %." in text
    assert "Never predicted: bird." in text


def test_a_model_that_is_no_better_than_the_most_frequent_class_is_told_so(tmp_path: Path) -> None:
    held = mistakes.of_matrix(np.array([[7, 0], [3, 0]]), ["no", "yes"])
    assert "would be right in 70 %: the model is no better than that." in report(tmp_path, held)


def test_pairs_are_those_of_scikit_learn_with_the_other_way_round(tmp_path: Path) -> None:
    text = report(tmp_path, mistakes.of_digits(tmp_path))
    _, labels, probabilities = mistakes.digits()
    counts = confusion_matrix(labels, probabilities.argmax(1))
    wrong = counts - np.diag(np.diag(counts))
    row, column = np.unravel_index(wrong.argmax(), wrong.shape)
    first = re.findall(r"^\| (\w+) \| (\w+) \| (\d+) \| .*? \| (\d+) \|$", text, re.MULTILINE)[0]
    names = mistakes.NAMES
    assert first == (names[row], names[column], str(wrong[row, column]), str(wrong[column, row]))


def test_the_matrix_shown_is_scikit_learns_in_the_order_of_the_analysis(tmp_path: Path) -> None:
    _, labels, probabilities = mistakes.digits()
    order = [3, 1, 4, 0, 5, 9, 2, 6, 8, 7]
    shown = matrix.view(AnalysisFile({**mistakes.of_digits(tmp_path), "order": order}))
    assert shown.names == tuple(mistakes.NAMES[each] for each in order)
    assert shown.counts.tolist() == confusion_matrix(labels, probabilities.argmax(1), labels=order).tolist()
    assert shown.support.tolist() == [int((labels == each).sum()) for each in order]


def test_of_a_thousand_classes_the_most_confused_are_shown_and_all_from_afar() -> None:
    held = mistakes.of_many(1000)
    analysis = AnalysisFile(held)
    shown = matrix.view(analysis)
    assert len(shown.names) == 20
    for pair in held["most_confused"][:8]:
        row, column = (shown.names.index(analysis.name(pair[side])) for side in ("target", "predicted"))
        assert shown.counts[row, column] == pair["count"]
        assert shown.support[row] == pair["support"]
    summed = matrix.blocks(analysis)
    assert summed.shape == (160, 160)
    assert summed.sum() == analysis.mistakes == held["n"] - round(held["n"] * held["accuracy"]["value"])
    # The order is that of the families: what they confuse among themselves lies on the diagonal.
    near = np.abs(np.subtract(*np.indices(summed.shape))) <= 2
    assert summed[near].sum() > 0.75 * summed.sum()
    shuffled = matrix.blocks(AnalysisFile({**held, "order": []}))
    assert shuffled[near].sum() < 0.1 * shuffled.sum()


def test_a_page_of_a_thousand_classes_stays_below_three_megabytes(tmp_path: Path) -> None:
    pictured = mistakes.of_digits(tmp_path)
    kept = ("top_losses", "label_issues", "pictures", "calibration", "dynamics", "history", "weak_slices")
    held = mistakes.of_many(1000) | {key: pictured[key] for key in kept}
    mistakes.write(tmp_path, held)
    text = report(tmp_path, held, "test")
    assert "could not be" not in text
    assert (tmp_path / "report.html").stat().st_size < 3e6


def test_a_class_that_the_analysis_does_not_list_keeps_its_number() -> None:
    analysis = AnalysisFile({"classes": ["a"], "confusion": [[0, 7, 2], [7, 7, 1]]})
    shown = matrix.view(analysis)
    assert (shown.names, shown.counts.tolist()) == (("a", "7"), [[0, 2], [0, 1]])


def test_an_absent_class_is_blank_and_a_cell_is_deeper_the_larger_its_share() -> None:
    shown = matrix.view(AnalysisFile(few(confusion=[[0, 0, 8], [0, 1, 2], [1, 1, 9], [1, 0, 1]])))
    colors = matrix.colors(shown)
    away = colors[..., 3]
    assert (away[2] == 0).all()
    assert away[0, 1] > away[1, 0] > 0
    assert away[1, 1] > away[0, 0]
    red = colors[0, 1]
    blue = colors[0, 0]
    assert red[0] > red[2]
    assert blue[2] > blue[0]


RIGHT = mistakes.of_matrix(np.diag([10, 20, 30]), ["a", "b", "c"])


ONE_CLASS = mistakes.of_matrix(np.array([[12]]), ["only"])


ONE_SAMPLE = mistakes.of_matrix(np.array([[0, 1], [0, 0]]), ["a", "b"])


@pytest.mark.parametrize(
    ("held", "said"),
    [
        (RIGHT, "60 samples: 100 % right (95 % interval 94 to 100), no mistake."),
        (ONE_CLASS, "There is only one class: nothing can be confused with another."),
        (ONE_SAMPLE, "1 sample: 0 % right (95 % interval 0 to 79.3), 1 mistake."),
        ({"n": 0, "classes": ["a", "b"]}, "No samples were counted, so that there is nothing to say of mistakes."),
        ({}, "No samples were counted"),
        ({"n": 5, "unit": "boxes", "broken": 2}, "2 boxes have scores that are not finite."),
        (few(tested_slices=6), "None of 6 slices that were looked at has more mistakes than the rest, beyond chance."),
        ("no json", "The error analysis cannot be shown"),
        ([1, 2], "The error analysis cannot be shown: errors.json holds no error analysis."),
    ],
    ids=["right", "one class", "one sample", "no sample", "empty", "boxes", "no slice", "no json", "a list"],
)
def test_little_and_nothing_make_a_clear_section(held: object, said: str, tmp_path: Path) -> None:
    text = report(tmp_path, held)
    assert said in text
    assert "could not be" not in text
    assert "nan" not in text


FOREIGN: list[Any] = [None, 3, "x", [], {}, [None], [3], ["x"], [[1, 2, 3]], [[1, 2, "x"]], [{}], [{"a": "b"}], True]


@pytest.mark.parametrize("value", [*FOREIGN, float("nan")], ids=repr)
def test_foreign_values_do_not_break_the_section(value: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each key in turn holds what it should not; then rows hold it, too."""
    monkeypatch.setattr(sample_album, "_png", functools.cache(sample_album._png))  # the pictures stay the same
    whole = mistakes.of_digits(tmp_path)
    rows = ("most_confused", "merge_candidates", "top_losses", "label_issues", "per_class", "weak_slices", "history")
    for key in whole.keys() - {"broken"}:  # a number of broken samples is told as a problem, rightly
        held = {**whole, key: value}
        mistakes.write(tmp_path, held)
        assert not [part for part in parts_undrawn(tmp_path) if getattr(part, "is_problem", False)], key
    held = {**whole, **{key: [dict.fromkeys(whole[key][0], value)] for key in rows}}
    held["calibration"] = {"bins": [dict.fromkeys(whole["calibration"]["bins"][0], value)], "ece": value}
    held["dynamics"] = dict.fromkeys(whole["dynamics"], value)
    mistakes.write(tmp_path, held)
    assert not [part for part in parts_undrawn(tmp_path) if getattr(part, "is_problem", False)]


def parts_undrawn(folder: Path) -> list[Any]:
    return list(flat(chapter(summarize(read_journal(folder)), folder, "validate", "errors")))


@pytest.mark.parametrize("path", ["../secret.json", "/etc/hostname", "missing.json"])
def test_a_file_elsewhere_is_not_read(path: str, tmp_path: Path) -> None:
    (tmp_path / "secret.json").write_text(json.dumps(few()))
    folder = tmp_path / "run"
    folder.mkdir()
    Journal(folder).append({"kind": "artifact", "what": "error-analysis", "path": path, "stage": "validate"})
    render(folder)
    assert "The error analysis cannot be shown" in (folder / "report.md").read_text()


def test_the_last_validation_counts_and_its_file_is_listed_once(tmp_path: Path) -> None:
    mistakes.write(tmp_path, few())
    text = report(tmp_path, few(notes=["the last one"]))
    assert text.count("the last one") == 1
    assert text.count("| error-analysis | `errors.json` |") == 1


def test_the_test_has_a_section_of_its_own_and_findings_go_where_they_belong(tmp_path: Path) -> None:
    mistakes.write(tmp_path, few(n=24))
    journal = Journal(tmp_path)
    where = Where(3, 96)
    for stage in ("validate", "test"):
        told = Finding("confused-classes", Severity.INFO, f"cat is taken for dog in {stage}", where, {"stage": stage})
        journal.append(as_declared(told).to_event())
    journal.append(as_declared(Finding("label-issue", Severity.INFO, "labels look wrong", where, {})).to_event())
    mistakes.write(tmp_path, few(n=99), "test")
    chapters = compose(summarize(read_journal(tmp_path)), tmp_path)
    claimed = {c.title: [told.finding.message for told in c.findings] for c in chapters if "confuse" in c.title}
    assert list(claimed) == ["What the model confuses", "What it confuses in the test"]
    assert all("in test" not in message for message in claimed["What the model confuses"])
    assert "labels look wrong" in claimed["What the model confuses"]
    figures = [figure.path for chapter in chapters for figure in chapter.figures]
    assert "figures/errors-confusion.svg" in figures
    assert "figures/errors-test-confusion.svg" in figures


def test_what_tells_of_the_training_is_told_once(tmp_path: Path) -> None:
    held = few(history=[{"epoch": e, "step": e, "accuracy": 0.5, "pairs": [[0, 1, 9 - e]]} for e in range(3)])
    assert report(tmp_path, held, "test").count("Which confusions are learned away") == 1
    assert report(tmp_path, held).count("Which confusions are learned away") == 1


def test_confidence_and_accuracy_are_those_of_the_predictions(tmp_path: Path) -> None:
    text = report(tmp_path, mistakes.of_digits(tmp_path))
    _, labels, probabilities = mistakes.digits()
    says, right = probabilities.max(1).mean(), (probabilities.argmax(1) == labels).mean()
    assert f"On average it is {100 * says:.1f} % sure of its answer and right in {100 * right:.1f} %." in text


def test_confusions_over_the_epochs_are_drawn_where_they_are_known(tmp_path: Path) -> None:
    history = [
        {"epoch": 0, "step": 5, "accuracy": 0.5, "pairs": [[0, 1, 9], [1, 0, 7]]},
        {"epoch": 1, "step": 10, "accuracy": 0.75, "pairs": [[0, 1, 4]]},
        {"epoch": 2, "step": 15, "accuracy": 0.8, "pairs": [[0, 1, 2], [1, 0, 1]]},
    ]
    text = report(tmp_path, few(history=history))
    assert "cat, taken for dog from 9 to 2; dog, taken for cat from 7 to 1" in text
    assert "Accuracy went from 50 % to 80 %." in text
    alone = report(tmp_path, few(history=history[:1]))
    assert "learned away" not in alone


def test_an_estimate_without_interval_is_told_without_one(tmp_path: Path) -> None:
    held = few(label_issues=[{"index": 3, "label": 0, "suggested": 1, "score": 0.1}], label_issue_rate={"value": 0.02})
    text = report(tmp_path, held)
    assert "1 sample has a label that the model's own probabilities contradict" in text
    assert "That is 2 % of all." in text
    assert "| 3 | cat | dog |  | 0.1 |" in text


@pytest.mark.parametrize(
    ("target", "said", "share"),
    [(0, "cat is missed: 4 times", "50 %"), (2, "dog is seen where there is none: 4", "50 % of false alarms")],
)
def test_what_is_missed_and_what_is_not_there_is_called_so(target: int, said: str, share: str, tmp_path: Path) -> None:
    pair = {"target": target, "predicted": 2 if target == 0 else 1, "count": 4, "share": 0.5, "low": 0.1, "high": 0.9}
    text = report(tmp_path, few(classes=["cat", "dog", "(no label)"], most_confused=[pair], unit="labels"))
    assert f"Most often {said}" in text
    assert f"| 4 | {share} |" in text


def test_answers_that_go_together_have_no_interval_in_the_tables(tmp_path: Path) -> None:
    """Wilson's interval is of independent answers, and pixels of one picture are none."""
    found = mistakes.wilson(8, 10)
    interval = f"80 % ({100 * found['low']:.3g} to {100 * found['high']:.3g})"
    assert f"| cat | 10 | {interval} |" in report(tmp_path, few())
    text = report(tmp_path, few(unit="pixels"))
    assert "| cat | 10 | 80 % |" in text
    assert "(95 %)" not in text


def test_labels_on_the_axes_differ_where_they_can() -> None:
    names = [f"a_very_long_common_beginning_{n}" for n in range(9)]
    assert len(set(matrix.told_apart(names, 12))) == 9
    assert max(map(len, matrix.told_apart(names, 12))) <= 12


@pytest.mark.parametrize("classes", [2, 5, 20])
def test_nothing_of_the_matrix_lies_outside_its_figure(classes: int) -> None:
    held = mistakes.of_matrix(np.full((classes, classes), 1234), [f"a class called {n}" for n in range(classes)])
    figure = matrix.draw_view(matrix.view(AnalysisFile(held)))
    figure.draw_without_rendering()
    box = figure.get_tightbbox()
    assert box is not None
    width, height = figure.get_size_inches()
    assert box.x0 > -0.02
    assert box.y0 > -0.02
    assert box.x1 < width + 0.02
    assert box.y1 < height + 0.02


@needs_browser
@pytest.mark.parametrize("width", [320, 1280])
def test_nothing_of_the_section_is_wider_than_the_screen(tmp_path: Path, width: int) -> None:
    held = mistakes.of_digits(tmp_path)
    held["samples"] = {str(held["top_losses"][1]["index"]): "averylongwordwithoutanyplacetobreak" * 9}
    held["pictures"].pop(str(held["top_losses"][1]["index"]))
    report(tmp_path, held)
    page = (tmp_path / "report.html").read_text().replace("<details", "<details open")
    (tmp_path / "frame.html").write_text(FRAME.format(page=html.escape(page), width=width))
    dom, console = browse(tmp_path / "frame.html", tmp_path / "profile", "--window-size=1400,900")
    told = re.search(r'<pre id="told">(.*?)</pre>', dom)
    assert told is not None
    assert re.fullmatch(r"scroll=false wide=0 images=\d+ broken=0 plots=\d+ cut=0 styled=600", told[1])
    assert console == []
