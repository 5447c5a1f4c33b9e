"""Every callback from YAML, by path and by short name; the files that come with the kit; several files at once."""

from __future__ import annotations

import inspect
import sys
from pathlib import Path
from typing import Any

import pytest
import test_docs as docs
import yaml
from jsonargparse import ArgumentParser
from lightning.pytorch import Callback
from lightning.pytorch.cli import LightningCLI
from lightning.pytorch.demos.boring_classes import BoringModel

import lightning_debugkit
from lightning_debugkit import GradientAnomalyDetector, NestedCheckpoint, Preset, Reporting, callbacks, read_journal
from lightning_debugkit.checkpoints import Best, Every, Latest
from lightning_debugkit.cli import config, main

SHORT = ["--trainer.logger=false", "--trainer.accelerator=cpu", "--trainer.max_epochs=1"]
SHORT += ["--trainer.limit_train_batches=3", "--trainer.limit_val_batches=1"]


def parser() -> ArgumentParser:
    """One that reads callbacks as LightningCLI does."""
    made = ArgumentParser(exit_on_error=False)
    made.add_argument("-c", action="config")
    made.add_argument("--trainer.callbacks", type=list[Callback] | Callback | None)
    return made


def instantiated(made: ArgumentParser, given: Any) -> Any:
    """Instantiate by the parser's method, which was named ``instantiate_classes`` before."""
    instantiate = getattr(made, "instantiate", None) or made.instantiate_classes
    return instantiate(given).trainer.callbacks


def built(text: str) -> Any:
    made = parser()
    given = made.parse_string(text)
    assert made.parse_string(made.dump(given)).as_dict() == given.as_dict()
    return instantiated(made, given)


@pytest.mark.parametrize("path", ["{}", "lightning_debugkit.{}", "lightning_debugkit.callbacks.{}"])
@pytest.mark.parametrize("name", callbacks.__all__)
def test_each_callback_has_its_path_and_its_short_name(name: str, path: str) -> None:
    (made,) = built(f"trainer:\n  callbacks:\n    - class_path: {path.format(name)}\n")
    assert type(made) is getattr(lightning_debugkit, name)


@pytest.mark.parametrize("name", callbacks.__all__)
def test_a_program_of_lightningcli_makes_prints_and_explains_each_callback(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def program(*words: str) -> LightningCLI:
        given = [f"--trainer.default_root_dir={tmp_path}", "--trainer.accelerator=cpu", "--trainer.logger=false"]
        monkeypatch.setattr(sys, "argv", ["train.py", *given, *words])
        return LightningCLI(BoringModel, run=False, save_config_callback=None)

    kind = getattr(lightning_debugkit, name)
    assert kind in map(type, program(f"--trainer.callbacks+={name}").trainer.callbacks)
    with pytest.raises(SystemExit):
        program(f"--trainer.callbacks+={name}", "--print_config")
    printed = capsys.readouterr().out
    (tmp_path / "printed.yaml").write_text(printed)
    with pytest.raises(SystemExit):
        program(f"--config={tmp_path / 'printed.yaml'}", "--print_config")
    assert capsys.readouterr().out == printed
    with pytest.raises(SystemExit):
        program(f"--trainer.callbacks.help={name}")
    told = capsys.readouterr().out
    assert [each for each in inspect.signature(kind).parameters if f"--trainer.callbacks.{each}" not in told] == []


def test_all_public_callbacks_are_there() -> None:
    public = (getattr(lightning_debugkit, name) for name in lightning_debugkit.__all__)
    kinds = [each for each in public if isinstance(each, type) and issubclass(each, Callback)]
    assert sorted(kind.__name__ for kind in kinds) == callbacks.__all__


@pytest.mark.parametrize("name", config.names())
def test_a_file_that_comes_with_the_kit_can_be_built(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", name]) == 0
    path = Path(capsys.readouterr().out.strip())
    made = parser()
    (callback,) = instantiated(made, made.parse_args(["-c", str(path)]))
    if name == "checkpoints":
        assert isinstance(callback, NestedCheckpoint)
        assert callback.rules == [Every(steps=5000), Best("val_loss", k=3), Latest()]
    else:
        assert (type(callback), callback.preset) == (Preset, name)


def test_a_file_that_is_not_there_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "heavy"]) == 2
    assert "config needs a name among checkpoints, light, standard, thorough, got 'heavy'" in capsys.readouterr().err


def test_a_preset_takes_the_arguments_of_debugkit() -> None:
    text = yaml.safe_dump(
        {
            "trainer": {
                "callbacks": {
                    "class_path": "lightning_debugkit.Preset",
                    "init_args": {
                        "preset": "light",
                        "ignore": ["no-gradient"],
                        "on_finding": "json.dumps",
                        "options": {"action": "warn"},
                    },
                }
            }
        }
    )
    made = built(text)
    (detector,) = [each for each in made.callbacks if isinstance(each, GradientAnomalyDetector)]
    (reporting,) = [each for each in made.callbacks if isinstance(each, Reporting)]
    assert (detector.action, reporting.ignore) == ("warn", ["no-gradient"])


def test_a_preset_runs_from_the_command_line_as_debugkit_does(tmp_path: Path) -> None:
    (tmp_path / "train_cli.py").write_text((docs.DOCS / "examples/train_cli.py").read_text())
    path = str(Path(lightning_debugkit.__file__).parent / "configs/standard.yaml")
    done = docs.run(tmp_path, "-c", path, *SHORT)
    assert done.returncode == 0, done.stderr
    (run,) = read_journal(tmp_path / "debugkit").of_kind("run")
    kit = [type(each).__name__ for each in lightning_debugkit.debugkit()]
    assert run["callbacks"] == ["Preset", *kit]


@pytest.mark.parametrize(
    ("files", "held"),
    [
        (["own", "kit"], ["Timer", "Preset"]),
        (["one", "kit"], ["Timer", "Preset"]),
        (["kit", "own"], ["Timer"]),  # a later `callbacks` replaces all that stood before, without a word
    ],
)
def test_a_file_that_appends_is_given_last(files: list[str], held: list[str], tmp_path: Path) -> None:
    own = "lightning.pytorch.callbacks.Timer"
    (tmp_path / "own").write_text(f"trainer:\n  callbacks:\n    - class_path: {own}\n")
    (tmp_path / "one").write_text(f"trainer:\n  callbacks:\n    class_path: {own}\n")
    (tmp_path / "kit").write_text((Path(lightning_debugkit.__file__).parent / "configs/standard.yaml").read_text())
    given = parser().parse_args([word for name in files for word in ("-c", str(tmp_path / name))])
    assert [each.class_path.rpartition(".")[2] for each in given.trainer.callbacks] == held
