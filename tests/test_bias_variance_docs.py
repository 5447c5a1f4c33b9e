"""What is said of `BiasVarianceReport` is so: its options and its example for LightningCLI."""

from __future__ import annotations

import ast
import inspect
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lightning_debugkit import BiasVarianceReport, read_journal

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"


def test_the_table_of_options_is_the_signature() -> None:
    rows = re.findall(r"^\| `(\w+)` \| `(.+?)` \|", (DOCS / "bias-variance.md").read_text(), re.MULTILINE)
    parameters = inspect.signature(BiasVarianceReport).parameters.values()
    assert [(name, ast.literal_eval(value)) for name, value in rows] == [(p.name, p.default) for p in parameters]


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "COLUMNS": "120"}
    environment.pop("LIGHTNING_DEBUGKIT", None)
    command = [sys.executable, "train_cli.py", "fit", *arguments]
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=200, check=False
    )


@pytest.fixture
def example(tmp_path: Path) -> Path:
    """The example program in a folder of its own, as a reader would copy it."""
    for file in (DOCS / "examples").iterdir():
        if file.is_file():
            shutil.copy(file, tmp_path)
    return tmp_path


def test_the_example_for_the_command_line_runs(example: Path) -> None:
    done = run(
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
    printed = run(example, "-c", "other.yaml", "--print_config")
    assert printed.returncode == 0, printed.stderr
    (example / "saved.yaml").write_text(printed.stdout)
    assert run(example, "-c", "saved.yaml", "--print_config").stdout == printed.stdout


def test_the_help_tells_every_argument(example: Path) -> None:
    shown = run(example, "--trainer.callbacks.help=lightning_debugkit.BiasVarianceReport").stdout
    for name in inspect.signature(BiasVarianceReport).parameters:
        assert f"--trainer.callbacks.{name}" in shown
