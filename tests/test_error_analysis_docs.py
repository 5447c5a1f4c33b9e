"""What is said of `ErrorAnalysis` is so: its options and its example for LightningCLI."""

from __future__ import annotations

import ast
import inspect
import json
import re
from pathlib import Path

import test_docs as docs

from lightning_debugkit import ErrorAnalysis, read_journal

PAGE = docs.DOCS / "error-analysis.md"
example = docs.example


def test_the_table_of_options_is_the_signature() -> None:
    rows = re.findall(r"^\| `(\w+)` \| `(.+?)` \|", docs.sections(PAGE)["Options"], re.MULTILINE)
    parameters = inspect.signature(ErrorAnalysis).parameters.values()
    assert [(name, ast.literal_eval(value)) for name, value in rows] == [(p.name, p.default) for p in parameters]


def test_the_help_tells_every_argument(example: Path) -> None:
    shown = docs.run(example, "--trainer.callbacks.help=lightning_debugkit.ErrorAnalysis").stdout
    for name in inspect.signature(ErrorAnalysis).parameters:
        assert f"--trainer.callbacks.{name}" in shown


def test_the_example_for_the_command_line_runs_and_comes_back_as_it_was_printed(example: Path) -> None:
    short = ("--trainer.logger=false", "--trainer.accelerator=cpu", "--trainer.max_epochs=2")
    done = docs.run(example, "-c", "errors.yaml", *short)
    assert done.returncode == 0, done.stderr
    assert read_journal(example / "debugkit").of_kind("trouble") == []
    held = json.loads((example / "debugkit" / "errors.json").read_text())
    assert (held["n"], held["classes"][0], held["classes"][9]) == (297, "zero", "nine")
    assert sum(count for _, _, count in held["confusion"]) == 297
    assert "What the model confuses" in (example / "debugkit" / "report.html").read_text()
    printed = docs.run(example, "-c", "errors.yaml", "--print_config")
    (example / "saved.yaml").write_text(printed.stdout)
    assert docs.run(example, "-c", "saved.yaml", "--print_config").stdout == printed.stdout


def test_the_keys_that_the_page_shows_are_in_the_file(example: Path) -> None:
    docs.run(example, "-c", "errors.yaml", "--trainer.max_epochs=1", "--trainer.logger=false")
    held = json.loads((example / "debugkit" / "errors.json").read_text())
    [shown] = docs.blocks(PAGE, "text")
    named = set(re.findall(r'"(\w+)":', shown))
    rows = (held["most_confused"], held["top_losses"], held["label_issues"], [held["accuracy"]])
    there = {*held, *(key for listed in rows for row in listed[:1] for key in row)}
    known = {"label", "suggested", "score"} if not held["label_issues"] else set()
    assert named - there - known == set()
    assert (example / "debugkit" / "misclassified.csv").read_text().startswith("index,target,target_name,predicted,")
