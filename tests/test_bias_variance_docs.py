"""What is said of `BiasVarianceReport` is so: its options and its example for LightningCLI."""

from __future__ import annotations

import ast
import inspect
import json
import re
from pathlib import Path

import test_docs as docs

from lightning_debugkit import BiasVarianceReport, read_journal

example = docs.example


def test_the_table_of_options_is_the_signature() -> None:
    rows = re.findall(r"^\| `(\w+)` \| `(.+?)` \|", (docs.DOCS / "bias-variance.md").read_text(), re.MULTILINE)
    parameters = inspect.signature(BiasVarianceReport).parameters.values()
    assert [(name, ast.literal_eval(value)) for name, value in rows] == [(p.name, p.default) for p in parameters]


def test_the_example_for_the_command_line_runs(example: Path) -> None:
    done = docs.run(
        example, "-c", "bias-variance.yaml", "--trainer.logger=false", "--trainer.accelerator=cpu",
        "--trainer.max_epochs=2",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert read_journal(example / "debugkit").of_kind("trouble") == []
    found = json.loads((example / "debugkit" / "bias_variance.json").read_text())
    assert {name: error["n"] for name, error in found["errors"].items()} == {
        "train": 1350,
        "train_dev": 150,
        "val": 297,
    }
    assert list(found["gaps"]) == ["avoidable_bias", "variance", "distribution_shift"]
    assert "Bias and variance" in (example / "debugkit" / "report.html").read_text()


def test_a_metric_and_a_goal_by_name_come_back_as_they_were_printed(example: Path) -> None:
    (example / "other.yaml").write_text(
        "trainer:\n  callbacks+:\n"
        "    - class_path: lightning_debugkit.BiasVarianceReport\n"
        "      init_args:\n        goal: {val_accuracy: 0.99}\n"
        "    - class_path: lightning_debugkit.BiasVarianceReport\n      init_args:\n        goal: [3, 100]\n"
        "        metric:\n          class_path: torchmetrics.classification.MulticlassF1Score\n"
        "          init_args: {num_classes: 10}\n"
    )
    printed = docs.run(example, "-c", "other.yaml", "--print_config")
    assert printed.returncode == 0, printed.stderr
    (example / "saved.yaml").write_text(printed.stdout)
    assert docs.run(example, "-c", "saved.yaml", "--print_config").stdout == printed.stdout


def test_the_help_tells_every_argument(example: Path) -> None:
    shown = docs.run(example, "--trainer.callbacks.help=lightning_debugkit.BiasVarianceReport").stdout
    for name in inspect.signature(BiasVarianceReport).parameters:
        assert f"--trainer.callbacks.{name}" in shown
