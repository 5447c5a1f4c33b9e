"""The story that `CodeSnapshot` is for: weights of March, code of June, one process that runs both."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import code_projects as projects
import git
import nbformat
import pytest
import warm_process
from code_projects import OUTPUTS, V1, V2, kit, python
from nbclient import NotebookClient

pytestmark = pytest.mark.timeout(600)

# What the checkpoint's own run gives out, computed in the process that still has its code.
EXPECT = f"""
{OUTPUTS}
import sys, torch
from shapes.model import Net
torch.save(outputs(Net.load_from_checkpoint(sys.argv[1], weights_only=False)), sys.argv[2])
"""
LOAD = f"""
{OUTPUTS}
import copy, pickle, sys, torch
from shapes.model import Net              # the code of now
from shapes.settings import Settings
from lightning_debugkit import load_model
torch.manual_seed(0)
new = Net(Settings())
before = outputs(new)
old = load_model(sys.argv[1], code="snapshot", trust_code=True)
wanted = torch.load(sys.argv[2])
assert torch.equal(outputs(old), wanted), "the old model gives what it gave"
assert torch.equal(outputs(new), before), "the new one goes on as it was"
assert type(old) is not Net and type(old).__module__ != "shapes.model"
assert type(old.hparams.settings) is not Settings and old.hparams.settings.scale == 2.0
assert Settings().scale == float(sys.argv[3])
import shapes.late
assert shapes.late.__name__ == "shapes.late" and "_debugkit" not in (shapes.late.__file__ or "")
assert torch.equal(outputs(copy.deepcopy(old)), wanted)
again = load_model(sys.argv[1], code="snapshot", trust_code=True)
assert torch.equal(outputs(again), wanted), "and once more"
print("bit-identical")
"""
USUAL = """
import sys, torch
from shapes.model import Net
try:
    Net.load_from_checkpoint(sys.argv[1], weights_only=False)
except RuntimeError as error:
    print("fails:", str(error).splitlines()[1].strip())
"""


class Story:
    """A project in a folder, its runs, and the processes that look at them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.root = folder / "project"
        self.root.mkdir()
        self.expected = folder / "expected.pt"

    def train(self, name: str, *note: str) -> Path:
        runs = self.folder / "runs" / name
        python("train.py", runs, *note, cwd=self.root)
        return runs / "best.ckpt"

    def program(self, text: str, *arguments: Any) -> str:
        path = self.folder / "program.py"
        path.write_text(text)
        return python(path, *arguments, cwd=self.folder, path=self.root)


@pytest.fixture
def story(tmp_path: Path) -> Story:
    return Story(tmp_path)


def assert_restored(restored: Path, files: dict[str, str]) -> None:
    found = {str(p.relative_to(restored)): p.read_text() for p in restored.rglob("*") if p.is_file()}
    assert found == files


def test_weights_meet_their_code_again(story: Story) -> None:
    projects.write(story.root, V1)
    first = projects.commit(story.root, "v1")
    checkpoint = story.train("march", "is", "relu", "enough?")
    story.program(EXPECT, checkpoint, story.expected)
    assert kit("diff", checkpoint, cwd=story.root).startswith("# The model's code is identical")

    projects.write(story.root, V2)
    second = projects.commit(story.root, "v2")
    story.train("june", "sigmoid", "then")
    assert "fails: Missing key(s)" in story.program(USUAL, checkpoint)
    assert story.program(LOAD, checkpoint, story.expected, 3.0) == "bit-identical\n"

    told = kit("diff", checkpoint, cwd=story.root, status=1)
    assert "changed   shapes/model.py (model)" in told
    assert "missing   shapes/layers.py (model)" in told
    assert "-    scale: float = 2.0\n+    scale: float = 3.0" in told
    assert "README.md" not in told

    kit("restore", checkpoint, "--to", story.folder / "back", cwd=story.folder)
    assert_restored(story.folder / "back", V1)
    with git.Repo(story.root) as repository:
        assert not repository.is_dirty(untracked_files=True)
        assert ([head.name for head in repository.heads], list(repository.tags)) == (["main"], [])

    runs = json.loads(kit("log", story.folder / "runs", "--format", "json", cwd=story.root))
    assert [(run["note"], run["commit"], run["dirty"], run["outcome"]) for run in runs] == [
        ("is relu enough?", first, False, "finished"),
        ("sigmoid then", second, False, "finished"),
    ]
    assert all(run["best"].startswith("val_loss ") for run in runs)
    assert runs[0]["checkpoints"] == [str(checkpoint)]
    table = kit("log", story.folder / "runs", cwd=story.root)
    assert table.index(first[:8]) < table.index(second[:8])
    # The folders of the runs may be gone: the references still tell.
    alone = json.loads(kit("log", story.root, "--format", "json", cwd=story.root))
    assert [(run["commit"], run["outcome"]) for run in alone] == [(first, "finished"), (second, "finished")]
    assert len(kit("refs", "list", cwd=story.root).splitlines()) == 2


def test_the_restored_project_trains_to_the_same_weights(story: Story) -> None:
    """The command that ``restore`` prints is the run again."""
    projects.write(story.root, V1)
    projects.commit(story.root, "v1")
    checkpoint = story.train("march")
    projects.write(story.root, V2)
    told = kit("restore", checkpoint, "--to", story.folder / "back", cwd=story.folder)
    command = told.splitlines()[-1].strip()
    assert command == f"cd {story.folder / 'back'} && python train.py {checkpoint.parent}"
    python("train.py", story.folder / "again", cwd=story.folder / "back")
    story.program(
        "import sys, torch\n"
        "a, b = (torch.load(path, weights_only=False)['state_dict'] for path in sys.argv[1:])\n"
        "assert a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)",
        checkpoint,
        story.folder / "again" / "best.ckpt",
    )


def test_without_git_the_sources_are_enough(story: Story) -> None:
    projects.write(story.root, V1)
    checkpoint = story.train("march")
    story.program(EXPECT, checkpoint, story.expected)
    projects.write(story.root, V2)
    assert story.program(LOAD, checkpoint, story.expected, 3.0) == "bit-identical\n"
    kit("restore", checkpoint, "--to", story.folder / "back", cwd=story.folder)
    assert_restored(story.folder / "back", {name: text for name, text in V1.items() if name != "README.md"})
    kit("diff", checkpoint, cwd=story.root, status=1)


def test_a_dirty_tree_with_untracked_modules_is_kept_as_it_ran(story: Story) -> None:
    """The commit alone would bring back neither the edit nor the new file, which ``.gitignore`` hides even from git."""
    projects.write(story.root, {**V1, ".gitignore": "late.py\n", "shapes/late.py": "squash = None\n"})
    commit = projects.commit(story.root, "half of v1")
    ran = {**V1, ".gitignore": "late.py\n", "shapes/settings.py": SETTINGS_5, "shapes/extra.py": "ANSWER = 42\n"}
    projects.write(story.root, ran)
    checkpoint = story.train("march")
    story.program(EXPECT, checkpoint, story.expected)
    told = kit("show", checkpoint, cwd=story.folder)
    assert f"{commit} on main, 2 files changed" in told
    projects.write(story.root, V2)
    projects.commit(story.root, "v2")
    text = LOAD.replace("old.hparams.settings.scale == 2.0", "old.hparams.settings.scale == 5.0")
    assert story.program(text, checkpoint, story.expected, 3.0) == "bit-identical\n"
    kit("restore", checkpoint, "--to", story.folder / "back", cwd=story.folder)
    assert_restored(story.folder / "back", ran)


SETTINGS_5 = V1["shapes/settings.py"].replace("scale: float = 2.0", "scale: float = 5.0")

CELLS = (
    """
import lightning.pytorch as pl
import torch
from torch.utils.data import DataLoader, TensorDataset
from lightning_debugkit import CodeSnapshot, load_model
""",
    "width = 6\n%time x = torch.randn(32, 3)",
    """
class Net(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(3, width)
    def forward(self, x):
        return torch.relu(self.layer(x)).sum(1)
    def training_step(self, batch, batch_idx):
        return self(batch[0]).square().mean()
    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)
""",
    """
trainer = pl.Trainer(max_epochs=1, logger=False, enable_progress_bar=False, enable_checkpointing=False,
                     accelerator="cpu", callbacks=[CodeSnapshot()])
trainer.fit(Net(), DataLoader(TensorDataset(x), 8))
trainer.save_checkpoint("cell.ckpt")
wanted = trainer.lightning_module.eval()(x).detach()
""",
    """
class Net(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.other = torch.nn.Linear(3, 2)
width = 2
""",
    """
old = load_model("cell.ckpt", code="snapshot", trust_code=True)
assert type(old) is not Net
assert torch.equal(old.eval()(x), wanted)
print("bit-identical")
""",
)


def test_a_model_of_a_notebook_cell_outlives_the_cell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(projects.KIT))
    monkeypatch.setattr(sys, "executable", warm_process.python())
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell.strip()) for cell in CELLS])
    NotebookClient(notebook, timeout=200, resources={"metadata": {"path": str(tmp_path)}}).execute()
    assert notebook.cells[-1].outputs[0].text == "bit-identical\n"
