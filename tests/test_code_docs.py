"""What docs/code-snapshot.md says is what there is, and its example runs from the command line."""

from __future__ import annotations

import ast
import inspect
import re
import sys
from pathlib import Path

import pytest
import test_docs as docs
import yaml

from lightning_debugkit import CodeSnapshot, load_model
from lightning_debugkit.cli import main, parser
from lightning_debugkit.provenance.carried.read_checkpoint import read_snapshot

example = docs.example
PAGE = docs.DOCS / "code-snapshot.md"
SHORT = ["--trainer.logger=false", "--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false"]


def test_the_table_of_options_is_the_signature() -> None:
    rows = re.findall(r"^\| `(\w+)` \| `(.+?)` \|", docs.sections(PAGE)["Options"], re.MULTILINE)
    parameters = inspect.signature(CodeSnapshot).parameters.values()
    assert [(name, ast.literal_eval(value)) for name, value in rows] == [(p.name, p.default) for p in parameters]


def test_the_table_of_load_model_is_its_signature() -> None:
    section = docs.sections(PAGE)["load_model"]
    named = re.findall(r"^\| (`.+?`) \|", section, re.MULTILINE)
    listed = [name.strip("`*") for cell in named for name in cell.split(", ")]
    assert listed == list(inspect.signature(load_model).parameters)


def test_each_command_shown_is_one() -> None:
    (shown,) = docs.blocks(PAGE, "sh")
    names = [line.split()[1] for line in shown.splitlines()]
    assert names == ["show", "diff", "restore", "log", "refs"]
    for name in names:
        with pytest.raises(SystemExit) as left:
            parser().parse_args([name, "--help"])
        assert left.value.code == 0


def test_the_yaml_shown_names_the_callback() -> None:
    (shown,) = docs.blocks(PAGE, "yaml")
    (callback,) = yaml.safe_load(shown)["trainer"]["callbacks+"]
    assert callback["class_path"] == "lightning_debugkit.CodeSnapshot"
    assert set(callback["init_args"]) <= set(inspect.signature(CodeSnapshot).parameters)


@pytest.fixture
def trained(example: Path) -> Path:
    """The example program, after a run of its own process."""
    done = docs.run(example, "-c", "code-snapshot.yaml", *SHORT, "--trainer.max_epochs=1", "--model.width=4")
    assert done.returncode == 0, done.stderr
    return example


def test_the_example_leaves_a_checkpoint_that_carries_script_and_settings(
    trained: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (checkpoint,) = trained.glob("checkpoints/*.ckpt")
    manifest, _ = read_snapshot(checkpoint)
    config = manifest["run"]["config"]
    assert (config["model"]["width"], config["data"]["batch_size"], manifest.data["label"]) == (4, 64, "e1.1")
    assert {"train_cli.py", "code-snapshot.yaml"} <= {file["path"] for file in manifest.files}
    assert main(["show", str(checkpoint)]) == 0
    assert re.search(r"^model +__main__\.Classifier$", capsys.readouterr().out, re.MULTILINE)

    # The script has moved on: LightningCLI's own checkpoint is rebuilt by its class path, from the snapshot.
    script = trained / "train_cli.py"
    script.write_text(script.read_text().replace("nn.ReLU()", "nn.Tanh()"))
    assert main(["diff", str(checkpoint), str(checkpoint)]) == 0
    assert "The model's code is identical" in capsys.readouterr().out
    assert main(["diff", str(checkpoint), str(trained)]) == 1
    assert "+            nn.Tanh()," in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", ["elsewhere"])
    model = load_model(checkpoint, code="snapshot", trust_code=True, width=4)  # the class saves no hyper-parameters
    assert [type(layer).__name__ for layer in model.body].count("ReLU") == 2
    assert model.head.in_features == 2 * 4 * 16


def test_what_the_commands_are_given_wrongly_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "x.ckpt").write_bytes(b"nothing")
    for arguments, said in (
        (["show", str(tmp_path / "none.ckpt")], "There is no checkpoint"),
        (["show", str(tmp_path / "x.ckpt")], "it is no checkpoint that torch can load"),
        (["restore", str(tmp_path / "x.ckpt"), "--to", str(tmp_path / "y")], "no checkpoint"),
        (["log", str(tmp_path / "none")], "log needs a folder"),
        (
            ["refs", "list", "--path", str(tmp_path)],
            "refs list cannot be done: the project lies in no git repository. Put the project under git: git init.",
        ),
        (["refs", "prune", "--path", str(docs.ROOT)], "refs prune needs --keep N or --older-than-days D"),
    ):
        assert main(arguments) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert said in line
