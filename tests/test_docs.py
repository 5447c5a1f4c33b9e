"""The docs say what the code does: a section for each rule, true options, links that lead somewhere, live examples."""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import os
import pkgutil
import re
import shutil
import subprocess
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import warm_process

import lightning_debugkit
from lightning_debugkit import (
    ActivationMonitor,
    DataCheck,
    GradientAnomalyDetector,
    GradientClippingMonitor,
    PreflightCheck,
    read_journal,
)
from lightning_debugkit.cli import main, rules
from lightning_debugkit.core.rule import Rule

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = [*sorted(DOCS.glob("*.md")), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
PARTS = ["What it means.", "Why it matters.", "How it is decided.", "When it may be wrong.", "What to do."]
DETECTOR = "lightning_debugkit.GradientAnomalyDetector"
PAGE_OF = {
    GradientAnomalyDetector: "gradient-anomaly.md",
    GradientClippingMonitor: "gradient-clipping.md",
    ActivationMonitor: "activations.md",
    PreflightCheck: "preflight.md",
    DataCheck: "data-check.md",
}


def declared() -> dict[str, Rule]:
    """Every rule of the package, by name; one name must not stand for two rules."""
    found: dict[str, Rule] = {}
    rooms = (lightning_debugkit,)
    modules = [each for room in rooms for each in pkgutil.walk_packages(room.__path__, f"{room.__name__}.")]
    for module in modules:
        for value in vars(importlib.import_module(module.name)).values():
            if isinstance(value, Rule):
                assert found.setdefault(value.name, value) == value, f"two rules are called {value.name}"
    return found


def sections(page: Path) -> dict[str, str]:
    """The text under each ``##`` heading."""
    pieces = re.split(r"^## (.+)$", without_code(page), flags=re.MULTILINE)[1:]
    titles = pieces[::2]
    assert len(titles) == len(set(titles)), "two sections have one title"
    return dict(zip(titles, pieces[1::2], strict=True))


def without_code(page: Path) -> str:
    """A ``#`` in a code block is no heading, a bracket in it no link."""
    return re.sub(r"^ *```.*?^ *```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


def blocks(page: Path, language: str) -> list[str]:
    found = re.findall(rf"^ *```{language}\n(.*?)^ *```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return [textwrap.dedent(block) for block in found]


def test_each_rule_has_its_section_and_each_section_its_rule() -> None:
    assert sorted(sections(DOCS / "findings.md")) == sorted(declared())


@pytest.mark.parametrize("name", sorted(declared()))
def test_a_section_has_its_parts_in_order_and_the_severity_of_its_rule(name: str) -> None:
    section = sections(DOCS / "findings.md").get(name, "")
    assert re.findall(r"^\*\*(.+?)\*\*", section, re.MULTILINE) == PARTS
    stated = re.search(r"^\*(\w+)", section, re.MULTILINE)
    assert stated is not None
    assert stated[1].lower() == str(declared()[name].severity)


def test_the_index_of_the_findings_is_made_from_the_rules() -> None:
    page = (DOCS / "findings.md").read_text()
    written = page.partition("--format markdown` -->")[2].partition("<!--")[0]
    told, status = rules.run("markdown")
    assert (written.strip(), status) == (told, 0)


def test_the_command_line_lists_each_rule_with_what_it_can_follow() -> None:
    told, _ = rules.run()
    lines = {line.split()[0]: line.split() for line in told.splitlines() if line.startswith("  ")}
    assert sorted(lines) == sorted(declared())
    assert lines["saturated-units"][1:3] == ["warning", "sampled"]
    assert "stale-gradients" in lines["update-ratio-high"]


def test_the_contents_of_the_findings_list_every_rule() -> None:
    listed = re.findall(r"\[([\w-]+)\]\(#([\w-]+)\)", (DOCS / "findings.md").read_text().partition("\n## ")[0])
    assert sorted(name for name, _ in listed) == sorted(declared())
    assert all(name == anchor for name, anchor in listed)


@pytest.mark.parametrize("kind", PAGE_OF)
def test_the_table_of_options_is_the_signature(kind: type) -> None:
    table = sections(DOCS / PAGE_OF[kind])["Options"]
    rows = re.findall(r"^\| `(\w+)` \| `(.+?)` \|", table, re.MULTILINE)
    parameters = inspect.signature(kind).parameters.values()
    assert [(name, ast.literal_eval(value)) for name, value in rows] == [(p.name, p.default) for p in parameters]


def test_an_example_line_of_the_journal_stands_for_each_kind() -> None:
    events = [json.loads(line) for block in blocks(DOCS / "journal.md", "json") for line in block.splitlines()]
    assert all(event["v"] == 1 for event in events)
    assert {event["kind"] for event in events} == {
        "run",
        "finding",
        "measure",
        "names",
        "series",
        "artifact",
        "trouble",
        "end",
    }


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_in_the_docs_parses(page: Path) -> None:
    for block in blocks(page, "python"):
        if not block.startswith(">>>"):  # run as a doctest
            ast.parse(block)


def broken_links(page: Path) -> Iterator[str]:
    for target in re.findall(r"\]\(([^)\s]+)\)", without_code(page)):
        if re.match(r"[a-z]+:", target):
            continue  # of the world outside, which tests do not ask
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        if not file.exists() or (anchor and anchor not in anchors(file)):
            yield target


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives to headings."""
    titles = re.findall(r"^#+ (.+)$", without_code(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_relative_links_lead_somewhere(page: Path) -> None:
    assert list(broken_links(page)) == []


@pytest.fixture
def example(tmp_path: Path) -> Path:
    """The example program in a folder of its own, as a reader would copy it."""
    for file in (DOCS / "examples").iterdir():
        if file.is_file():
            shutil.copy(file, tmp_path)
    return tmp_path


def run(folder: Path, *arguments: str, script: str = "train_cli.py") -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "COLUMNS": "120"}
    environment.pop("LIGHTNING_DEBUGKIT", None)
    command = [warm_process.python(), script, "fit", *arguments]
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=200, check=False
    )


def changed(folder: Path, old: str, new: str) -> str:
    """The fragment with one argument changed, as a file in ``folder``."""
    text = (folder / "debugkit.yaml").read_text()
    assert old in text
    (folder / "changed.yaml").write_text(text.replace(old, new))
    return "changed.yaml"


def test_the_example_runs_and_leaves_a_report_and_a_journal(example: Path) -> None:
    short = ["--trainer.max_epochs=1", "--trainer.limit_train_batches=3", "--trainer.limit_val_batches=1"]
    done = run(example, "-c", "debugkit.yaml", "--trainer.logger=false", "--trainer.accelerator=cpu", *short)
    assert done.returncode == 0, done.stderr
    events = read_journal(example / "debugkit")
    assert [event["status"] for event in events.of_kind("end")] == ["finished"]
    assert events.of_kind("run")[0]["config"]["model"] == "Classifier"
    assert events.findings == []
    assert events.of_kind("trouble") == []
    assert not (example / "debugkit" / "report.html").exists()  # it was short and well: made when asked for
    assert main(["report", str(example)]) == 0
    assert "</html>" in (example / "debugkit" / "report.html").read_text()


def test_the_example_of_a_subset_learns_some_classes_and_says_which(example: Path) -> None:
    quiet = ["--trainer.logger=false", "--trainer.accelerator=cpu", "--trainer.max_epochs=1"]
    done = run(example, "-c", "class-subset.yaml", *quiet, script="subset_cli.py")
    assert done.returncode == 0, done.stderr
    checkpoint = next((example / "checkpoints").glob("*.ckpt"))
    held = torch.load(checkpoint, weights_only=True)
    assert held["class_mapping"] == {"labels": [3, 5, 8], "names": ["3", "5", "8"]}


def test_the_configuration_comes_back_as_it_was_printed(example: Path) -> None:
    printed = run(example, "-c", "debugkit.yaml", "--print_config")
    assert printed.returncode == 0, printed.stderr
    assert f"class_path: {DETECTOR}\n" in printed.stdout
    (example / "saved.yaml").write_text(printed.stdout)
    assert run(example, "-c", "saved.yaml", "--print_config").stdout == printed.stdout


def test_the_fragment_shows_the_defaults_of_every_option(example: Path) -> None:
    added = [f"--trainer.callbacks+=lightning_debugkit.{kind.__name__}" for kind in PAGE_OF]
    printed = run(example, *added, "--print_config").stdout
    options = [name for kind in PAGE_OF for name in inspect.signature(kind).parameters]
    assert all(re.search(rf"^ +{name}: ", printed, re.MULTILINE) for name in options)
    assert run(example, "-c", "debugkit.yaml", "--print_config").stdout == printed


def test_a_wrong_number_fails_with_our_sentence(example: Path) -> None:
    done = run(example, "-c", changed(example, "max_skips: 10", "max_skips: -1"))
    assert done.returncode != 0
    assert "GradientAnomalyDetector needs max_skips >= 0, got -1; 10 is a good start." in done.stderr


def test_a_wrong_choice_fails_with_the_choices(example: Path) -> None:
    """LightningCLI checks a Literal by itself, before the callback can: the answer names value and choices."""
    done = run(example, "-c", changed(example, "action: raise", "action: explode"))
    assert done.returncode != 0
    assert "['raise', 'stop', 'skip', 'warn']. Got value: explode" in done.stderr


def test_a_wrong_choice_in_python_fails_with_our_sentence() -> None:
    with pytest.raises(ValueError) as caught:
        GradientAnomalyDetector(action="explode")
    assert str(caught.value) == (
        "GradientAnomalyDetector needs action 'raise', 'stop', 'skip' or 'warn', got 'explode'; "
        "'raise' keeps the weights clean."
    )


def test_the_help_tells_every_argument(example: Path) -> None:
    shown = " ".join(run(example, f"--trainer.callbacks.help={DETECTOR}").stdout.split())
    for name in inspect.signature(GradientAnomalyDetector).parameters:
        assert f"--trainer.callbacks.{name}" in shown
    assert "Look for parameters that are wired wrongly, too." in shown
    assert "Updates that ``skip`` may drop before it raises." in shown
