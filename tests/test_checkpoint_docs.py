"""What docs/checkpoints.md says is what there is, and its example runs from the command line."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path

import pytest
import test_docs as docs
import torch
import yaml

from lightning_debugkit import AtomicCheckpointIO, NestedCheckpoint, read_journal
from lightning_debugkit.checkpointing.records import read_records
from lightning_debugkit.checkpoints import read_rules
from lightning_debugkit.cli import main

example = docs.example
PAGE = docs.DOCS / "checkpoints.md"
SHORT = ["--trainer.logger=false", "--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false"]


@pytest.mark.parametrize(("title", "kind"), [("Options", NestedCheckpoint), ("AtomicCheckpointIO", AtomicCheckpointIO)])
def test_the_table_of_options_is_the_signature(title: str, kind: type) -> None:
    rows = re.findall(r"^\| `(\w+)` \| `(.+?)` \|", docs.sections(PAGE)[title], re.MULTILINE)
    parameters = inspect.signature(kind).parameters.values()
    assert [(name, ast.literal_eval(value)) for name, value in rows] == [(p.name, p.default) for p in parameters]


def test_the_rules_shown_can_be_built() -> None:
    first = docs.blocks(PAGE, "python")[0]
    rules = re.findall(r"^ +((?:Every|Best|Latest)\(.+\)),", first, re.MULTILINE)
    assert len(rules) == 5
    for rule in rules:
        assert read_rules(rule)
    (plan,) = re.findall(r'--plan "(.+?)"', PAGE.read_text())
    assert len(read_rules(plan)) == 3


def test_the_yaml_shown_names_a_callback_and_its_rules() -> None:
    (shown,) = docs.blocks(PAGE, "yaml")
    (callback,) = yaml.safe_load(shown)["trainer"]["callbacks+"]
    assert callback["class_path"] == "lightning_debugkit.NestedCheckpoint"
    assert len(callback["init_args"]["rules"]) == 3


def test_the_example_saves_by_its_rules_and_goes_on_from_the_command_line(example: Path) -> None:
    """LightningCLI reads ``--ckpt_path`` with ``weights_only=True``, whatever the Trainer is told."""
    done = docs.run(example, "-c", "checkpoints.yaml", *SHORT, "--trainer.max_epochs=2")
    assert done.returncode == 0, done.stderr
    records = read_records(example / "checkpoints")
    assert [record.step for record in records] == [24, 40, 48]
    assert records[0].rules[2] == "Best(metric='val_accuracy', k=3, mode='max')"
    assert main(["checkpoints", str(example)]) == 0
    newest = str(example / "checkpoints" / records[-1].name)
    for ckpt_path, epochs in ((newest, 3), ("last", 4)):
        (example / "config.yaml").unlink()  # without a logger, LightningCLI does not overwrite that of the fit before
        done = docs.run(
            example, "-c", "checkpoints.yaml", *SHORT, f"--trainer.max_epochs={epochs}", f"--ckpt_path={ckpt_path}"
        )
        assert done.returncode == 0, done.stderr
        steps = [record.step for record in read_records(example / "checkpoints")]
        assert steps[-1] == 24 * epochs
    assert torch.load(example / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 96
    journals = [read_journal(example / name) for name in ("debugkit", "debugkit-1", "debugkit-2")]
    assert [(journal.findings, journal.of_kind("trouble")) for journal in journals] == [([], [])] * 3


def test_the_configuration_comes_back_as_it_was_printed(example: Path) -> None:
    printed = docs.run(example, "-c", "checkpoints.yaml", "--print_config")
    assert printed.returncode == 0, printed.stderr
    assert "- Every(steps=40, keep=2)\n" in printed.stdout
    assert "class_path: lightning_debugkit.AtomicCheckpointIO\n" in printed.stdout
    (example / "saved.yaml").write_text(printed.stdout)
    assert docs.run(example, "-c", "saved.yaml", "--print_config").stdout == printed.stdout


def test_a_rule_that_cannot_be_fails_with_its_sentence(example: Path) -> None:
    text = (example / "checkpoints.yaml").read_text()
    (example / "changed.yaml").write_text(text.replace("Every(hours=4)", "Every(hours=0)"))
    done = docs.run(example, "-c", "changed.yaml", *SHORT)
    assert done.returncode != 0
    assert "Every needs hours > 0, got 0; 0.5 is half an hour." in done.stderr


def test_the_example_keeps_the_best_in_an_object_store(example: Path) -> None:
    done = docs.run(example, "-c", "object-store.yaml", *SHORT, "--trainer.max_epochs=2")
    assert done.returncode == 0, done.stderr
    assert 40 in [record.step for record in read_records(example / "checkpoints")]
    journal = read_journal(example / "debugkit")
    assert [each for each in journal.findings if each.rule == "checkpoint-failed"] == []
    places = {each["step"]: each["path"] for each in journal.of_kind("artifact") if each["name"] == "checkpoint"}
    assert {step for step, place in places.items() if place.startswith("memory://bucket/run/")} >= {24}
