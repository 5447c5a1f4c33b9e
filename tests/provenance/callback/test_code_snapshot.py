"""Each checkpoint carries its code, whoever saves it, and loads as it did before; the training is the same."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from provenance.packages import MODEL, fit, journal

from lightning_debugkit import CodeSnapshot, NestedCheckpoint
from lightning_debugkit.provenance.carried.read_checkpoint import read_snapshot
from lightning_debugkit.provenance.snapshot.checkpoint_hooks import Saving

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:lightning")


def assert_carried(path: Any, package: Path) -> dict[str, Any]:
    manifest, source = read_snapshot(path)
    assert source is not None
    assert manifest.model_files == [f"{package.name}/__init__.py", f"{package.name}/model.py"]
    assert manifest["model"]["qualname"] == "Net"
    assert torch.load(path, weights_only=True)["state_dict"]
    return dict(manifest["checkpoint"])


@pytest.mark.parametrize("weights_only", [False, True])
@pytest.mark.parametrize("kind", [ModelCheckpoint, NestedCheckpoint])
def test_files_of_any_checkpoint_callback_carry_the_code(
    project: Path, kind: type[ModelCheckpoint], weights_only: bool
) -> None:
    saver = kind(dirpath=project.parent / "ckpt", monitor="val_loss", save_weights_only=weights_only)
    fit(project, CodeSnapshot(), saver)
    facts = assert_carried(saver.best_model_path, project)
    assert facts["step"] in (4, 8)
    assert facts["metrics"]["val_loss"] > 0
    assert facts["drifted"] == []


def test_a_file_saved_by_hand_after_the_fit_carries_it_too(project: Path) -> None:
    trainer = fit(project, CodeSnapshot(), enable_checkpointing=False)
    trainer.save_checkpoint(project.parent / "late.ckpt", weights_only=True)
    assert assert_carried(project.parent / "late.ckpt", project)["step"] == 8


def test_such_a_file_still_loads_the_usual_way(project: Path) -> None:
    trainer = fit(project, CodeSnapshot(), enable_checkpointing=False)
    trainer.save_checkpoint(project.parent / "late.ckpt")
    again = type(trainer.lightning_module).load_from_checkpoint(project.parent / "late.ckpt")
    assert torch.equal(again.layers[0].weight, trainer.lightning_module.layers[0].weight)


def test_training_goes_the_same_way_without_it(project: Path) -> None:
    weights = []
    for callbacks in ((), (CodeSnapshot(export=True),)):
        trainer = fit(project, *callbacks, enable_checkpointing=False)
        weights.append(torch.cat([p.detach().flatten() for p in trainer.lightning_module.parameters()]))
        drawn = torch.rand(1)
    assert torch.equal(*weights)
    fit(project, enable_checkpointing=False)
    assert torch.equal(drawn, torch.rand(1)), "the generators, too"


def test_the_code_lies_beside_the_run_to_be_read(project: Path) -> None:
    fit(project, CodeSnapshot(note="why not", label="e1.1"), enable_checkpointing=False)
    folder = project.parents[1] / "runs" / "debugkit" / "code"
    manifest = json.loads((folder / "manifest.json").read_text())
    assert (manifest["note"], manifest["label"]) == ("why not", "e1.1")
    assert manifest["run"]["hyper_parameters"] == {"width": 8}
    assert (folder / "sources" / project.name / "model.py").read_text() == MODEL
    (event,) = [event for event in journal(project).of_kind("artifact") if event["name"] == "code"]
    assert (event["path"], event["id"], event["note"]) == ("code/manifest.json", manifest["id"], "why not")


def test_the_second_run_tells_what_is_different_since_the_first(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fit(project, CodeSnapshot(), enable_checkpointing=False)
    monkeypatch.setattr("platform.python_version", lambda: "3.99.0")
    fit(project, CodeSnapshot(), enable_checkpointing=False)
    runs = project.parents[1] / "runs"
    first = json.loads((runs / "debugkit" / "code" / "manifest.json").read_text())
    told = json.loads((runs / "debugkit-1" / "code" / "previous.json").read_text())
    assert told["id"] == first["id"]
    assert told["environment"] == [["python", first["environment"]["python"], "3.99.0"]]


def test_without_a_repository_the_reason_is_told_as_a_note(project: Path) -> None:
    fit(project, CodeSnapshot(), enable_checkpointing=False)
    assert journal(project).findings == []
    (finding,) = [each for each in journal(project).notes if each.rule == "no-repository"]
    assert finding.message == "no commit is recorded with the weights: the project lies in no git repository"


def test_what_is_left_out_is_listed_with_its_reason(project: Path) -> None:
    (project / "vocabulary.txt").write_text("x" * 2000)
    (project / ".env").write_text("TOKEN=1")
    fit(project, CodeSnapshot(max_file=1500), enable_checkpointing=False)
    (finding,) = [each for each in journal(project).notes if each.rule == "file-skipped"]
    assert "files left out of the snapshot: " in finding.message
    manifest = json.loads((project.parents[1] / "runs/debugkit/code/manifest.json").read_text())
    # The modules of the tests are imported here, too.
    skipped = {each["path"]: each["reason"] for each in manifest["source"]["skipped"] if each["path"][0] != "@"}
    assert skipped == {f"{project.name}/vocabulary.txt": "too large: 2,000 bytes"}
    assert f"{project.name}/.env" not in [file["path"] for file in manifest["source"]["files"]]


def test_sources_that_are_too_large_travel_as_hashes_only(project: Path) -> None:
    trainer = fit(project, CodeSnapshot(max_bundle=10), enable_checkpointing=False)
    trainer.save_checkpoint(project.parent / "x.ckpt")
    manifest, source = read_snapshot(project.parent / "x.ckpt")
    assert source is None
    assert f"{project.name}/model.py" in [file["path"] for file in manifest.files]


class Edit(Callback):
    """An editor at work while the training runs."""

    def __init__(self, path: Path, text: str) -> None:
        self.path, self.text = path, text

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        snapshot = next(each for each in trainer.callbacks if isinstance(each, CodeSnapshot))
        assert snapshot._taken() is not None  # taken beside the first steps
        self.path.write_text(self.text)


def test_an_edit_during_the_run_is_a_note_and_the_file_holds_what_ran(project: Path) -> None:
    edit = Edit(project / "model.py", MODEL.replace("Dropout(0.5)", "Dropout(0.1)"))
    trainer = fit(project, CodeSnapshot(), edit, enable_checkpointing=False)
    (finding,) = [each for each in journal(project).findings if each.rule == "code-changed-during-run"]
    assert str(finding.severity) == "info"
    assert finding.message == (
        f"changed on disk during the run, which went on with the code it had: {project.name}/model.py"
    )
    trainer.save_checkpoint(project.parent / "x.ckpt")
    assert assert_carried(project.parent / "x.ckpt", project)["drifted"] == [f"{project.name}/model.py"]


def test_a_module_that_is_imported_after_its_file_has_changed_is_a_warning(project: Path) -> None:
    (project / "late.py").write_text("SCALE = 1\n")
    (project / "model.py").write_text(
        MODEL.replace("        return self.layers(x)", "        from . import late\n        return self.layers(x)")
    )
    fit(
        project,
        CodeSnapshot(),
        Edit(project / "late.py", "SCALE = 2\n"),
        enable_checkpointing=False,
        num_sanity_val_steps=0,
    )
    (finding,) = [each for each in journal(project).findings if each.rule == "code-changed-during-run"]
    assert str(finding.severity) == "warning"
    assert finding.evidence["files"] == [f"{project.name}/late.py"]
    assert "after it had been changed" in finding.message


def test_a_capture_that_fails_ends_nothing(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: Any, **options: Any) -> Any:
        raise OSError(5, "the disk is gone")

    monkeypatch.setattr("lightning_debugkit.provenance.capture.sources.collect", broken)
    monkeypatch.setattr("lightning_debugkit.provenance.repository.git.open_repository", broken)
    trainer = fit(project, CodeSnapshot(), enable_checkpointing=False)
    trainer.save_checkpoint(project.parent / "x.ckpt")
    manifest, source = read_snapshot(project.parent / "x.ckpt")
    assert source is None
    assert "the disk is gone" in manifest["source"]["reason"]
    assert "the disk is gone" in manifest["identity"]["reason"]
    assert manifest["environment"]["torch"] == torch.__version__


def test_a_capture_that_hangs_is_left_behind(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import threading

    wait = threading.Event()
    monkeypatch.setattr("lightning_debugkit.provenance.capture.sources.collect", lambda *args, **options: wait.wait(20))
    trainer = fit(project, CodeSnapshot(timeout=0.5), enable_checkpointing=False)
    wait.set()
    trainer.save_checkpoint(project.parent / "x.ckpt")
    manifest, source = read_snapshot(project.parent / "x.ckpt")
    assert source is None
    assert manifest["source"]["reason"] == "it took longer than 0.5 s"


def test_a_second_fit_of_one_trainer_puts_nothing_on_top(project: Path) -> None:
    trainer = fit(project, CodeSnapshot(), enable_checkpointing=False)
    trainer.fit_loop.max_epochs = 3
    trainer.fit(trainer.lightning_module)
    saving = trainer.strategy.__dict__["save_checkpoint"]
    assert isinstance(saving, Saving)
    assert not isinstance(saving.__wrapped__, Saving)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"note": 3}, "CodeSnapshot needs note as text, got 3; a sentence will do."),
        ({"label": "a\nb"}, "CodeSnapshot needs label on one line, got 'a\\nb'; the rest belongs into note."),
        (
            {"include": "*.yaml"},
            "CodeSnapshot needs include as a list of file names, got '*.yaml'; such as [\"*.yaml\"].",
        ),
        ({"max_file": -1}, "CodeSnapshot needs max_file >= 0 bytes, got -1; 1,000,000 is usual."),
        ({"max_bundle": 1.5}, "CodeSnapshot needs max_bundle >= 0 bytes, got 1.5; 20,000,000 is usual."),
        ({"timeout": 0}, "CodeSnapshot needs timeout > 0 seconds, got 0; 10 is usual."),
    ],
)
def test_a_wrong_argument_is_told_in_one_sentence(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError) as caught:
        CodeSnapshot(**arguments)
    assert str(caught.value) == said


def noted(package: Path) -> str:
    (finding,) = [each for each in journal(package).notes if each.rule == "model-not-loadable"]
    assert str(finding.severity) == "info"
    return finding.message


@pytest.mark.parametrize(
    ("default", "made", "said"),
    [
        ("width", "Net(8)", "cannot rebuild Net from a checkpoint alone: its hyper-parameters lack the argument width"),
        (
            "width=8",
            "Net()",
            "rebuilds Net with its default width=8: its hyper-parameters do not say what this run used",
        ),
    ],
)
def test_arguments_that_are_not_kept_are_noted(project: Path, default: str, made: str, said: str) -> None:
    text = MODEL.replace("        self.save_hyperparameters()\n", "").replace("width=8", default)
    (project / "model.py").write_text(f"{text}\n\nKind = Net\nNet = lambda: {made.replace('Net', 'Kind')}\n")
    fit(project, CodeSnapshot(), enable_checkpointing=False)
    assert noted(project) == f"load_model {said}"


def test_a_class_made_within_a_function_is_noted_unless_its_module_has_a_name_for_it(project: Path) -> None:
    wrapped = MODEL.replace("class Net(", "class _Net(") + "\n\ndef made():\n    class Net(_Net): ...\n    return Net\n"
    (project / "model.py").write_text(f"{wrapped}\nNamed = made()\nNet = lambda: Named()\n")
    fit(project, CodeSnapshot(), enable_checkpointing=False)
    assert "model-not-loadable" not in [each.rule for each in journal(project).notes]
    (project / "model.py").write_text(f"{wrapped}\nNet = lambda: made()()\n")
    del sys.modules[f"{project.name}.model"]
    fit(project, CodeSnapshot(), enable_checkpointing=False)
    (finding,) = [each for each in journal(project, 1).notes if each.rule == "model-not-loadable"]
    assert "the class was made within a function" in finding.message
