"""What is odd about a run costs its snapshot a part at most, and the part that is lost is told."""

from __future__ import annotations

import copy
import hashlib
import os
import pickle
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.tuner import Tuner
from provenance.packages import MODEL, exported, fit, folder_of, journal, rules

from lightning_debugkit import CodeSnapshot, debugkit
from lightning_debugkit.cli import log as log_command
from lightning_debugkit.provenance.capture import sources
from lightning_debugkit.provenance.carried.read_checkpoint import read_snapshot
from lightning_debugkit.provenance.snapshot import run_end_commit
from lightning_debugkit.provenance.snapshot.checkpoint_hooks import Saving
from lightning_debugkit.provenance.snapshot.snapshot_files import previous

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:lightning")


def saved(trainer: Trainer, project: Path) -> Any:
    trainer.save_checkpoint(project.parent / "x.ckpt")
    return read_snapshot(project.parent / "x.ckpt")


def git(folder: Path, *command: str) -> str:
    settings = ("-c", "user.name=a", "-c", "user.email=a@b.c")
    return subprocess.run(["git", *settings, *command], cwd=folder, check=True, capture_output=True, text=True).stdout


def test_code_above_the_limit_is_told_and_the_report_does_not_promise_it(project: Path, with_report: None) -> None:
    trainer = fit(project, CodeSnapshot(max_bundle=100), enable_checkpointing=False)
    assert saved(trainer, project)[1] is None
    (finding,) = [each for each in journal(project).findings if each.rule == "code-not-carried"]
    assert str(finding.severity) == "warning"
    assert finding.message.endswith(f"packed it takes {finding.evidence['packed']:,} bytes, and max_bundle is 100")
    report = (folder_of(project) / "report.md").read_text()
    files = finding.evidence["files"]
    assert f"The checkpoints carry hashes of the {files} source files of this run, not the files" in report
    assert "Every checkpoint carries" not in report


def test_who_asked_for_no_snapshot_is_not_warned_that_there_is_none(project: Path) -> None:
    """A preset's, on a machine so busy that the time runs out: nothing is wrong with the run."""
    snapshot = CodeSnapshot(max_bundle=100)
    snapshot.chosen = False
    trainer = fit(project, snapshot, enable_checkpointing=False)
    saved(trainer, project)
    (finding,) = [each for each in journal(project).findings if each.rule == "code-not-carried"]
    assert str(finding.severity) == "info"


def test_code_that_git_keeps_is_a_note_only(project: Path) -> None:
    git(project.parent, "init", "-q")
    fit(project, CodeSnapshot(max_bundle=100), enable_checkpointing=False)
    (finding,) = [each for each in journal(project).findings if each.rule == "code-not-carried"]
    assert str(finding.severity) == "info"
    assert "restore gets them back from refs/debugkit/runs/" in finding.advice


def test_a_repository_that_hangs_does_not_cost_the_sources(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def hangs(repository: Any) -> Any:
        time.sleep(8)

    git(project.parent, "init", "-q")
    monkeypatch.setattr("lightning_debugkit.provenance.repository.commit_facts.identity", hangs)
    trainer = fit(project, CodeSnapshot(timeout=5.0), enable_checkpointing=False)
    manifest, packed = saved(trainer, project)
    assert packed is not None
    assert manifest["identity"]["reason"] == "it took longer than 5 s"
    assert "code-not-carried" not in rules(journal(project))


@pytest.mark.parametrize("late", [True, False])
def test_a_project_whose_imports_cannot_be_followed_in_time_keeps_its_sources(
    late: bool, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def follow(*given: Any) -> Any:
        if late:
            time.sleep(8)
        raise RecursionError

    monkeypatch.setattr("lightning_debugkit.provenance.capture.sources.model_part", follow)
    trainer = fit(project, CodeSnapshot(timeout=5.0), enable_checkpointing=False)
    manifest, packed = saved(trainer, project)
    assert packed is not None
    assert "python" in manifest["environment"]
    code = [file["path"] for file in manifest["source"]["files"] if file["kind"] in ("main", "module")]
    assert len(code) > 1
    assert manifest["model"]["files"] == code, "what the model uses may be any of them"
    assert manifest["model"]["path"] in code


@pytest.mark.parametrize("pattern", ["**.yaml", "/etc/*.conf", "../*.yaml"])
def test_names_outside_of_the_project_are_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match="CodeSnapshot needs include to name files below the project, got"):
        CodeSnapshot(include=[pattern])


def test_a_name_that_cannot_be_looked_for_costs_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("x = 1\n")
    taken = sources.collect(tmp_path, [], tmp_path / "train.py", ["/etc/*.conf"])
    assert [file["path"] for file in taken.files] == ["train.py"]
    assert taken.skipped[0]["path"] == "/etc/*.conf"


class Unspeakable:
    """Its text cannot be asked for."""

    def __repr__(self) -> str:
        raise RuntimeError("no words")


ENDLESS: dict[str, Any] = {}
ENDLESS["self"] = ENDLESS


@pytest.mark.parametrize(("value", "told"), [(Unspeakable(), f"{__name__}.Unspeakable"), (ENDLESS, {})])
def test_an_odd_hyper_parameter_costs_nothing_but_itself(project: Path, value: Any, told: Any) -> None:
    made = f"\n\nKind = Net\nfrom {__name__} import ENDLESS, Unspeakable\n"
    made += f"Net = lambda: Kind(odd={'ENDLESS' if isinstance(value, dict) else 'Unspeakable()'})\n"
    (project / "model.py").write_text(MODEL.replace("width=8", "width=8, odd=None") + made)
    trainer = fit(project, CodeSnapshot(), enable_checkpointing=False)
    manifest, packed = saved(trainer, project)
    assert packed is not None
    kept = manifest["run"]["hyper_parameters"]
    assert kept["width"] == 8
    assert kept["odd"] == told or (told == {} and list(kept["odd"]) == ["self"])
    assert journal(project).of_kind("trouble") == []


def test_what_a_run_leaves_does_not_make_its_tree_dirty(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = project.parent
    git(root, "init", "-q")
    (root / ".gitignore").write_text("__pycache__\n")
    git(root, "add", "-A")
    git(root, "commit", "-qm", "v1")
    for _ in range(2):
        trainer = fit(project, CodeSnapshot(), ModelCheckpoint(), default_root_dir=root, logger=True)
        manifest, _ = saved(trainer, project)
        assert manifest.is_dirty is False
        assert manifest["tree"]["tree"] == git(root, "rev-parse", "HEAD^{tree}").strip()


def test_a_preset_writes_nothing_into_the_repository(project: Path) -> None:
    root = project.parent
    git(root, "init", "-q")
    (root / ".git" / "info" / "exclude").write_text("__pycache__/\n")  # what Python itself writes beside a module
    git(root, "add", "-A")
    git(root, "commit", "-qm", "v1")
    (project / "notes.txt").write_text("private")
    (project / "__init__.py").write_text("# changed\n")

    def kept() -> list[str]:
        lying = sorted(str(path) for path in (root / ".git").rglob("*") if path.is_file())
        return [git(root, "for-each-ref"), git(root, "status", "--porcelain"), *lying]

    before = kept()
    trainer = fit(project, *debugkit(), max_epochs=1)
    assert kept() == before

    manifest, source = read_snapshot(trainer.checkpoint_callback.best_model_path)
    assert (manifest.commit, manifest.is_dirty) == (git(root, "rev-parse", "HEAD").strip(), True)
    assert source is not None
    told, _ = log_command.run(str(project.parents[1]))
    assert manifest.commit is not None
    assert f"{manifest.commit[:8]}+" in told
    assert "finished at step 4" in told

    fit(project, *debugkit(side_ref=True), max_epochs=1)
    assert git(root, "for-each-ref", "--format=%(subject)", "refs/debugkit") != ""
    told, _ = log_command.run(str(project.parents[1]))
    assert len(told.splitlines()) == 3


def test_the_run_before_is_one_of_the_same_project(project: Path) -> None:
    fit(project, CodeSnapshot(), enable_checkpointing=False)
    fit(project, CodeSnapshot(), enable_checkpointing=False)
    folder = project.parents[1] / "runs" / "debugkit-1"
    assert previous(folder, str(project.parent)) is not None
    assert previous(folder, str(project.parents[1] / "another")) is None


def test_a_folder_that_vanishes_beside_the_run_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a folder for temporary files, where other programs make and remove theirs."""
    runs = tmp_path / "root"
    (tmp_path / "theirs").mkdir()
    scan = os.scandir

    def vanishes(path: Any = ".") -> Any:
        if Path(os.fsdecode(path)).name == "theirs":
            raise FileNotFoundError(path)
        return scan(path)

    monkeypatch.setattr(os, "scandir", vanishes)
    assert previous(runs / "debugkit", str(tmp_path)) is None


def test_a_folder_above_the_runs_that_may_not_be_listed_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a home that others may enter only."""

    def refused(path: Path) -> Any:
        raise PermissionError(path)

    monkeypatch.setattr(Path, "iterdir", refused)
    assert previous(tmp_path / "runs/debugkit", str(tmp_path)) is None


def test_the_code_of_a_run_is_left_although_a_trial_came_before(project: Path) -> None:
    trainer = Trainer(
        callbacks=CodeSnapshot(), logger=False, max_epochs=1, default_root_dir=project.parents[1] / "runs",
        enable_progress_bar=False, enable_model_summary=False, accelerator="cpu",
    )  # fmt: skip
    net = __import__(f"{project.name}.model", fromlist=["Net"]).Net()
    net.lr = 0.1
    Tuner(trainer).lr_find(net, num_training=3, update_attr=False)
    trainer.fit(net)
    manifest, _ = saved(trainer, project)
    (left,) = (project.parents[1] / "runs").glob("debugkit*/code/manifest.json")
    assert f'"id": "{manifest.id}"' in left.read_text()
    assert (left.parent / "sources" / project.name / "model.py").read_text() == MODEL
    assert journal(project).of_kind("trouble") == []


def test_a_fault_at_the_end_leaves_the_end_and_the_report(
    project: Path, monkeypatch: pytest.MonkeyPatch, with_report: None
) -> None:
    def full(*args: Any, **options: Any) -> Any:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("lightning_debugkit.provenance.callback.keep_outcome", full)
    monkeypatch.setattr("lightning_debugkit.provenance.callback.summary_of", full)
    fit(project, CodeSnapshot(), enable_checkpointing=False)
    assert [event["hook"] for event in journal(project).of_kind("trouble")] == ["outcome", "commit"]
    assert journal(project).of_kind("end")
    assert (folder_of(project) / "report.html").exists()


def test_ctrl_c_is_a_stop(project: Path) -> None:
    (project / "model.py").write_text(
        MODEL.replace('        self.log("train_loss", loss)\n', "        raise KeyboardInterrupt\n")
    )
    seen: list[run_end_commit.RunEnd] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CodeSnapshot, "_end", lambda self, trainer, outcome: seen.append(outcome))
        with pytest.raises((KeyboardInterrupt, SystemExit)):
            fit(project, CodeSnapshot(), enable_checkpointing=False)
    assert [each.status for each in seen] == ["interrupted"]


def test_a_trainer_can_be_pickled_and_copied_after_its_fit(project: Path) -> None:
    trainer = fit(project, CodeSnapshot(), enable_checkpointing=False)
    for other in (copy.deepcopy(trainer), pickle.loads(pickle.dumps(trainer))):
        assert not isinstance(other.strategy.save_checkpoint, Saving)
    assert isinstance(trainer.strategy.save_checkpoint, Saving)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (  # a mask beside the input has other rows
            "        return self.layers(x)",
            "        return self.layers(mask @ x.mean(0, keepdim=True).expand(3, 4)).mean() + self.layers(x)",
        ),
        ("        return self.layers(x)", "        return self.layers(x[None])[0] if x.ndim == 1 else self.layers(x)"),
    ],
)
def test_an_example_is_exported_as_it_is_if_not_by_its_first_rows(project: Path, old: str, new: str) -> None:
    text = MODEL.replace(old, new)
    if "mask" in new:
        example = "(torch.zeros(8, 4), torch.eye(3))"
        text = text.replace("def forward(self, x)", "def forward(self, x, mask)")
        text = text.replace("self(batch[0])", "self(batch[0], torch.eye(3))")
    else:
        example = "torch.zeros(4)"
    text = text.replace("        self.layers =", f"        self.example_input_array = {example}\n        self.layers =")
    (project / "model.py").write_text(text)
    fit(project, CodeSnapshot(export=True), enable_checkpointing=False)
    assert exported(project).get("reason") is None


def test_weights_that_were_left_out_of_the_checkpoint_on_purpose_stay_those_of_now(project: Path) -> None:
    """A large frozen body is often not saved; ``strict_loading`` says so."""
    text = MODEL.replace(
        "    def forward(self, x)",
        "    strict_loading = False\n\n    def state_dict(self, *args, **kwargs):\n"
        "        return {k: v for k, v in super().state_dict(*args, **kwargs).items() if '0' not in k}\n\n"
        "    def forward(self, x)",
    )
    (project / "model.py").write_text(text)
    trainer = fit(project, CodeSnapshot(export=True))
    event = exported(project)
    assert event.get("reason") is None
    program, inputs = torch.export.load(event["path"]).module(), torch.randn(5, 4)
    assert torch.equal(program(inputs), trainer.lightning_module.eval()(inputs))


def test_a_file_of_the_model_that_is_left_out_is_told(project: Path) -> None:
    token = "ghp_" + hashlib.sha256(b"no real token").hexdigest()[:36]
    (project / "blocks.py").write_text(f"TOKEN = '{token}'\n")
    (project / "unused.py").write_text(f"TOKEN = '{token}'\n")
    text = (project / "model.py").read_text()
    (project / "model.py").write_text(
        text.replace("import torch\n", f"import torch\nfrom {project.name} import blocks\n", 1)
    )
    fit(project, CodeSnapshot(), enable_checkpointing=False)
    (finding,) = [each for each in journal(project).notes if each.rule == "model-not-loadable"]
    assert finding.message == (
        "load_model cannot rebuild Net from a checkpoint alone: its code is left out of the snapshot in "
        f"{project.name}/blocks.py (holds a GitHub token in line 1)"
    )
    assert finding.advice == (
        "Keep the token out of the code, in an environment variable. Where the same file lies on the import path, it "
        "is taken from there."
    )
