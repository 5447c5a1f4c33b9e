"""A failing step is packed whole and read back in a process that knows nothing of it."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import threading
import zipfile
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import warm_process
from replay.steps import Net, X

from lightning_debugkit.core.finding import Finding, Severity, Where
from lightning_debugkit.core.rng import RandomState
from lightning_debugkit.replay import bundle

CELL = "/tmp/ipykernel_7/1.py"
FINDING = Finding(
    "nonfinite-loss", Severity.ERROR, "loss is inf", Where(0, 3, module="box"), {"samples": [1]}, "Clamp."
)


def save(folder: Path, module: torch.nn.Module, **options: Any) -> str:
    return bundle.save(folder, module, (X, ["a"] * 8), RandomState.capture(), FINDING, {"batch_idx": 3}, **options)


def test_what_was_packed_is_read_back(tmp_path: Path) -> None:
    model = Net(torch.nn.Dropout(0.5))
    torch.manual_seed(4)
    assert save(tmp_path / "step", model) == ""
    drawn = torch.rand(3)

    found = bundle.load(tmp_path / "step", trust_code=True)
    assert torch.equal(found.batch[0], X)
    assert (found.batch[1], found.finding, dict(found.facts)) == (["a"] * 8, FINDING, {"batch_idx": 3})
    assert all(torch.equal(a, b) for a, b in zip(found.module.parameters(), model.parameters(), strict=True))
    found.random.restore()
    assert torch.equal(torch.rand(3), drawn)


def test_a_second_bundle_takes_the_place_of_the_first_and_leaves_no_rest(tmp_path: Path) -> None:
    save(tmp_path / "step", Net())
    (tmp_path / "step" / "old").write_text("")
    save(tmp_path / "step", Net())
    assert [path.name for path in tmp_path.iterdir()] == ["step"]
    assert not (tmp_path / "step" / "old").exists()


def test_a_model_that_cannot_be_pickled_leaves_weights_and_batch_and_says_so(tmp_path: Path) -> None:
    model = Net()
    model.lock = threading.Lock()
    note = save(tmp_path / "step", model)
    assert "cannot be packed (TypeError: cannot pickle '_thread.lock' object)" in note
    kept = torch.load(tmp_path / "step" / "weights.pt", weights_only=True)
    assert torch.equal(kept["first.weight"], model.first.weight)
    assert torch.equal(torch.load(tmp_path / "step" / "batch.pkl", weights_only=False)["batch"][0], X)
    with pytest.raises(ValueError, match="replay needs a bundle with its model, got one without: the model cannot"):
        bundle.load(tmp_path / "step", trust_code=True)


def test_a_folder_that_is_no_bundle_is_told_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        bundle.load(tmp_path)
    assert str(caught.value) == f"replay needs a bundle folder with a bundle.json, got {str(tmp_path)!r}."


def test_a_disk_without_room_is_an_error_that_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr("lightning_debugkit.replay.bundle.shutil.disk_usage", lambda path: usage)
    with pytest.raises(OSError, match=r"a bundle needs .* GB of disk"):
        save(tmp_path / "step", Net())
    assert list(tmp_path.iterdir()) == []


def test_a_bundle_runs_no_code_that_is_not_trusted(tmp_path: Path) -> None:
    save(tmp_path / "step", Net())
    folder = str(tmp_path / "step")
    with pytest.raises(ValueError) as caught:
        bundle.load(Path(folder))
    assert str(caught.value) == (
        f"replay needs trust_code=True (--trust-code on the command line) to run the code in {folder!r}; "
        "it runs with your rights: give it for your own bundles, and if you trust who made the folder."
    )


def test_names_of_modules_mean_the_users_files_again_once_a_bundle_is_loaded(packed: Path, tmp_path: Path) -> None:
    """Whoever replays a bundle in a notebook imports his own, newer, module next."""
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "newer.py").write_text("")
    out = run(tmp_path, "-c", IMPORT_NEXT, str(packed / "step"))
    assert out.splitlines() == ["True", str(tmp_path / "project")]


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.is_file())


@pytest.mark.parametrize(
    ("kept", "left", "note"),
    [
        (10**6, ["bundle.json", "step.pkl"], ""),
        (
            100_000,
            ["batch.pkl", "bundle.json"],
            "(more than 100,000 bytes): the bundle holds batch only; without weights",
        ),
        (1000, ["bundle.json"], "the bundle holds neither weights nor batch; without batch (more than 1,000 bytes)"),
    ],
)
def test_what_takes_too_many_bytes_is_left_out_and_named(kept: int, left: list[str], note: str, tmp_path: Path) -> None:
    model = Net(torch.nn.Linear(4, 4))
    model.register_buffer("table", torch.zeros(50_000))
    told = save(tmp_path / "step", model, max_bytes=kept)
    assert files(tmp_path / "step") == left
    assert note in told
    assert bool(note) == bool(told)
    assert json.loads((tmp_path / "step" / "bundle.json").read_text())["note"] == told
    assert sum(path.stat().st_size for path in (tmp_path / "step").glob("*.p*")) <= kept


def has_token(name: str, data: bytes) -> str | None:
    return "holds a token" if b"tok_123" in data else None


def test_a_model_that_carries_a_secret_is_not_packed_but_its_weights_and_the_batch_are(tmp_path: Path) -> None:
    model = Net()
    model.token = "tok_123"
    assert save(tmp_path / "step", model, secret=has_token).startswith(
        "the model cannot be packed (holds a token): the bundle holds weights and batch only"
    )
    assert files(tmp_path / "step") == ["batch.pkl", "bundle.json", "weights.pt"]
    assert not any(b"tok_123" in path.read_bytes() for path in (tmp_path / "step").rglob("*") if path.is_file())


def test_a_secret_in_a_function_of_the_main_script_is_found_in_the_pickle(tmp_path: Path) -> None:
    model, cell = Net(), {"__name__": "__main__"}
    exec(compile("def ask():\n    return 'tok_123'\n", CELL, "exec"), cell)
    model.ask = cell["ask"]
    assert "(holds a token)" in save(tmp_path / "step", model, secret=has_token)


def test_a_batch_that_carries_a_secret_is_left_out(tmp_path: Path) -> None:
    note = bundle.save(tmp_path / "step", Net(), (X, "tok_123"), RandomState.capture(), FINDING, {}, secret=has_token)
    assert "without batch (holds a token)" in note
    assert files(tmp_path / "step") == ["bundle.json", "weights.pt"]


def test_a_source_with_a_secret_is_left_out_and_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in (("keys_of_mine", "KEY = 'tok_123'\n"), ("parts_of_mine", "x = 1\n")):
        (tmp_path / f"{name}.py").write_text(text)
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
        sys.modules[name].__file__ = str(tmp_path / f"{name}.py")
    note = save(tmp_path / "step", Net(), secret=has_token)
    assert "without the source of keys_of_mine.py (holds a token)" in note
    assert not (tmp_path / "step" / "code" / "keys_of_mine.py").exists()
    assert (tmp_path / "step" / "code" / "parts_of_mine.py").read_text() == "x = 1\n"
    monkeypatch.setattr(bundle, "MAX_CODE", 5)
    assert "without the source of parts_of_mine.py (more than 5 bytes of code)" in save(tmp_path / "step", Net())


def test_the_head_is_strict_json(tmp_path: Path) -> None:
    save(tmp_path / "step", Net())

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    event = json.loads((tmp_path / "step" / "bundle.json").read_text(), parse_constant=refuse)
    assert event["finding"] == FINDING.to_event()


def test_functions_of_a_notebook_cell_keep_their_file_and_line_within_each_other(tmp_path: Path) -> None:
    """cloudpickle 3.1.3 writes ``<dynamic-code>`` for the file of all that it pickles by value."""
    cell = {"__name__": "__main__"}
    exec(
        compile("x = 1\n\n\ndef outer():\n    def inner():\n        return x\n\n    return inner\n", CELL, "exec"), cell
    )
    model = Net()
    model.outer, model.inner = cell["outer"], cell["outer"]()
    assert save(tmp_path / "step", model) == ""
    kept = bundle.load(tmp_path / "step", trust_code=True).module
    assert kept.outer is not model.outer
    places = [(f.__code__.co_filename, f.__code__.co_firstlineno) for f in (kept.outer, kept.outer(), kept.inner)]
    assert places == [(CELL, 4), (CELL, 5), (CELL, 5)]
    assert kept.inner() == 1


# --- in processes of their own ------------------------------------------------------------------------------------

TRAIN = """
import sys
from pathlib import Path
import torch
from project.parts import Scale
from lightning_debugkit.core.finding import Finding, Severity, Where
from lightning_debugkit.replay import bundle
from lightning_debugkit.core.rng import RandomState

print("the script ran")


class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = Scale()

    def forward(self, x):
        return self.scale(x) + 1


finding = Finding("nonfinite-loss", Severity.ERROR, "loss is inf", Where(0, 3))
print("note:", bundle.save(Path(sys.argv[1]), Model(), torch.ones(2), RandomState.capture(), finding, {}))
"""
LOAD = """
import linecache, sys
from lightning_debugkit.replay import bundle
found = bundle.load(sys.argv[1], trust_code=True)
print(type(found.module).__name__, found.module(found.batch).tolist())
print(linecache.getline(sys.argv[2], 12).strip())
forward = found.module.forward.__code__
print(forward.co_filename, forward.co_firstlineno)
"""

IMPORT_NEXT = """
import importlib.machinery, sys
from lightning_debugkit.replay import bundle
before = list(sys.path)
bundle.load(sys.argv[1], trust_code=True)
print(sys.path == before)
print(*importlib.machinery.PathFinder.find_spec("project").submodule_search_locations)
"""


def run(cwd: Path, *arguments: str) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [warm_process.python(), *arguments], cwd=cwd, env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose script wrote a bundle."""
    root = tmp_path_factory.mktemp("user")
    (root / "project").mkdir()
    (root / "project" / "__init__.py").write_text("")
    (root / "project" / "parts.py").write_text(
        "import torch\n\n\nclass Scale(torch.nn.Module):\n    def forward(self, x):\n        return 10 * x\n"
    )
    (root / "train.py").write_text(TRAIN)
    out = run(root, "train.py", str(root / "step"))
    assert out == "the script ran\nnote: \n"
    return root


def test_a_model_of_a_script_without_a_guard_is_loaded_without_running_it(packed: Path, tmp_path: Path) -> None:
    out = run(tmp_path, "-c", LOAD, str(packed / "step"), str(packed / "train.py"))
    assert out.splitlines()[::2] == ["Model [11.0, 11.0]", f"{packed / 'train.py'} 18"]
    assert "the script ran" not in out


def test_code_that_was_changed_since_is_loaded_as_it_was(packed: Path, tmp_path: Path) -> None:
    """Both the project's file and the text of the script's lines."""
    parts, train = packed / "project" / "parts.py", packed / "train.py"
    kept = parts.read_text(), train.read_text()
    try:
        parts.write_text("raise RuntimeError('changed since')\n")
        train.write_text("raise RuntimeError('changed since')\n")
        out = run(packed, "-c", LOAD, str(packed / "step"), str(train))
    finally:
        parts.write_text(kept[0]), train.write_text(kept[1])
    assert out.splitlines()[:2] == ["Model [11.0, 11.0]", TRAIN.splitlines()[11]]


def test_only_the_projects_own_files_are_packed(packed: Path) -> None:
    code = packed / "step" / "code"
    files = sorted(str(path.relative_to(code)) for path in code.rglob("*.py"))
    assert files == ["project/__init__.py", "project/parts.py"]


def test_a_package_in_a_zip_file_is_packed_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = tmp_path / "models.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("zipped_models/__init__.py", "")
        file.writestr("zipped_models/net.py", "import torch\n\n\nclass Zipped(torch.nn.Linear):\n    pass\n")
    monkeypatch.syspath_prepend(str(archive))
    model = importlib.import_module("zipped_models.net").Zipped(2, 1)
    bundle.save(tmp_path / "step", model, torch.ones(1, 2), RandomState.capture(), FINDING, {})
    archive.unlink()
    for name in ("zipped_models", "zipped_models.net"):
        del sys.modules[name]
    sys.path.remove(str(archive))
    assert type(bundle.load(tmp_path / "step", trust_code=True).module).__name__ == "Zipped"


def test_a_slice_of_a_dataset_is_packed_without_the_dataset(tmp_path: Path) -> None:
    """Batches of many loaders are views of one large tensor."""
    store = torch.arange(800_000.0).reshape(100_000, 8)
    batch = {"x": store[500:508], "rows": [store[7], store[9:10, ::2]], "all": store[0].expand(4, 8)}
    bundle.save(tmp_path / "step", Net(), batch, RandomState.capture(), FINDING, {})
    assert (tmp_path / "step" / "step.pkl").stat().st_size < 40_000
    found = bundle.load(tmp_path / "step", trust_code=True).batch
    assert torch.equal(found["x"], batch["x"])
    assert all(torch.equal(a, b) for a, b in zip(found["rows"], batch["rows"], strict=True))
    assert torch.equal(found["all"], batch["all"])


def test_views_that_fill_their_memory_stay_views_of_it(tmp_path: Path) -> None:
    memory = torch.zeros(3, 8)
    bundle.save(tmp_path / "step", Net(), (memory, memory[1]), RandomState.capture(), FINDING, {})
    whole, row = bundle.load(tmp_path / "step", trust_code=True).batch
    row += 1
    assert whole.sum() == 8
