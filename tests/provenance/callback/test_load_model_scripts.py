"""Models of scripts, notebooks and LightningCLI are rebuilt without running the training again."""

from __future__ import annotations

import importlib
import pickle
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from provenance.snapshots import run, write

from lightning_debugkit.provenance.load_model.loading import load_model

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:lightning", "ignore::FutureWarning")

NET = """
import torch
from lightning.pytorch import LightningModule
class Base(LightningModule):
    def training_step(self, batch, index):
        return self(batch).square().mean()
    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)
"""
SCRIPT = {
    "pyproject.toml": "",
    "helping.py": NET + "def twice(x):\n    from helping_late import TWO\n    return TWO * x\n",
    "helping_late.py": "TWO = 2\n",
    "entry.py": """
        import argparse, sys
        from dataclasses import dataclass, field
        import torch
        from helping import Base, twice
        from saving_for_tests import trained

        SIZES = {"in": 3}
        SIZES["out"] = 6
        parser = argparse.ArgumentParser()
        parser.add_argument("--bias", type=float, default=0.0)
        args = parser.parse_args()
        print("this script runs")

        @dataclass
        class Options:
            width: int = 2
            slopes: "list[float]" = field(default_factory=lambda: [1.0])

        def shift(x):
            return x + args.bias

        class Net(Base):
            def __init__(self, options: "Options | None" = None):
                super().__init__()
                self.save_hyperparameters()
                self.inner = torch.nn.Linear(SIZES["in"], SIZES["out"])
            def forward(self, x):
                return shift(twice(self.inner(x)))

        def main():
            trained(Net(Options(width=3)), "entry.ckpt")

        if __name__ == "__main__":
            main()
            open("ran.txt", "a").write("once\\n")
        """,
}


@pytest.fixture
def away() -> Iterator[None]:
    """What a test imports of its projects is forgotten."""
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if name.partition(".")[0] in ("helping", "helping_late", "boxes", "entry", "parts_of_net"):
            del sys.modules[name]


def then(checkpoint: Path) -> dict[str, Any]:
    held: dict[str, Any] = torch.load(checkpoint.with_suffix(".told"), weights_only=True)
    return held


def answers_as_then(net: Any, checkpoint: Path) -> bool:
    told = then(checkpoint)
    return torch.equal(net.eval()(told["given"]), told["answer"])


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = write(tmp_path_factory.mktemp("script"), SCRIPT)
    run(root, "entry.py", "--bias", "0.25")
    return root / "entry.ckpt"


def test_a_model_of_the_script_is_rebuilt_without_training(
    script: Path, capsys: pytest.CaptureFixture[str], away: None
) -> None:
    argv, main = list(sys.argv), sys.modules["__main__"]
    net: Any = load_model(script, code="snapshot", trust_code=True)
    assert answers_as_then(net, script)
    assert "this script runs" not in capsys.readouterr().out
    assert (script.parent / "ran.txt").read_text() == "once\n"
    assert net.hparams.options == type(net.hparams.options)(width=3, slopes=[1.0])
    assert pickle.loads(pickle.dumps(net.hparams)).options == net.hparams.options
    assert (sys.argv, sys.modules["__main__"]) == (argv, main)


def test_auto_takes_the_snapshot_of_a_script_that_is_not_running(
    script: Path, monkeypatch: pytest.MonkeyPatch, away: None
) -> None:
    monkeypatch.syspath_prepend(script.parent)
    with pytest.warns(UserWarning, match="Net was defined in a script or notebook that is not the one running"):
        net = load_model(script, trust_code=True)
    assert answers_as_then(net, script)


def test_a_script_run_as_a_module_of_a_package(tmp_path: Path, away: None) -> None:
    root = write(
        tmp_path,
        {
            "boxes/__init__.py": "",
            "boxes/base.py": NET,
            "boxes/train.py": """
                import torch
                from .base import Base
                class Net(Base):
                    def __init__(self):
                        super().__init__()
                        self.inner = torch.nn.Linear(3, 2)
                    def forward(self, x):
                        from .late import three
                        return three * self.inner(x)
                if __name__ == "__main__":
                    from saving_for_tests import trained
                    trained(Net(), "boxes.ckpt")
                """,
            "boxes/late.py": "three = 3\n",
        },
    )
    run(root, "-m", "boxes.train")
    assert answers_as_then(load_model(root / "boxes.ckpt", code="snapshot", trust_code=True), root / "boxes.ckpt")


def test_a_model_of_notebook_cells(tmp_path: Path, away: None) -> None:
    cells = [
        "%matplotlib --list\nimport torch\nfrom helping import Base",
        "WIDTH = 4\nfiles = !ls",
        "class Net(Base):\n    def __init__(self):\n        this is no Python",
        "%%time\nclass Net(Base):\n    def __init__(self):\n        super().__init__()\n"
        "        self.inner = torch.nn.Linear(3, WIDTH)\n    def forward(self, x):\n        return self.inner(x)",
        "from saving_for_tests import trained\ntrained(Net(), 'cells.ckpt')",
        "open('end.txt', 'w').write('end')",
    ]
    notebook = f"""
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
for cell in {cells!r}:
    shell.run_cell(cell, store_history=True)
"""
    root = write(tmp_path, {"helping.py": NET, "pyproject.toml": ""})
    run(root, "-c", notebook, path=(root,))
    assert (root / "end.txt").exists()
    assert answers_as_then(load_model(root / "cells.ckpt", code="snapshot", trust_code=True), root / "cells.ckpt")


CLI = {
    "pyproject.toml": "",
    "parts_of_net/__init__.py": "",
    "parts_of_net/head.py": """
        import torch
        class Head(torch.nn.Module):
            def __init__(self, by: float = 1.0):
                super().__init__()
                self.by = by
            def forward(self, x):
                return x * self.by
        class Bent(Head):
            def forward(self, x):
                return x * self.by + 1
        """,
    "parts_of_net/net.py": NET
    + """
from parts_of_net.head import Head
class Net(Base):
    def __init__(self, head: Head, width: int = 2):
        super().__init__()
        self.save_hyperparameters(ignore=[])
        self.inner = torch.nn.Linear(3, width)
        self.head = head
    def forward(self, x):
        return self.head(self.inner(x))
""",
    "cli.py": """
        import torch
        from lightning.pytorch.cli import LightningCLI
        from saving_for_tests import trained
        from parts_of_net.net import Net
        from lightning.pytorch import LightningModule
        cli = LightningCLI(SUBCLASS, run=False, subclass_mode_model=MODE, save_config_callback=None, args=[
            *(["--model=parts_of_net.net.Net"] if MODE else []),
            HEAD, "--model" + INIT + ".width=5"])
        trained(cli.model, "cli.ckpt")
        """,
}


@pytest.mark.parametrize("subclass", [False, True])
def test_class_paths_of_a_command_line_mean_the_captured_classes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, away: None, subclass: bool
) -> None:
    text = CLI["cli.py"].replace("SUBCLASS", "LightningModule" if subclass else "Net").replace("MODE", str(subclass))
    init = ".init_args" if subclass else ""
    head = f"'--model{init}.head={{class_path: parts_of_net.head.Bent, init_args: {{by: 3.0}}}}'"
    root = write(tmp_path / "then", {**CLI, "cli.py": text.replace("HEAD", head).replace("INIT", repr(init))})
    run(root, "cli.py")
    now = write(
        tmp_path / "now",
        {"parts_of_net/__init__.py": "", "parts_of_net/head.py": "class Head: ...\n", "parts_of_net/net.py": "x = 1\n"},
    )
    monkeypatch.syspath_prepend(now)
    current = importlib.import_module("parts_of_net.head")
    net: Any = load_model(root / "cli.ckpt", code="snapshot", trust_code=True)
    assert answers_as_then(net, root / "cli.ckpt")
    assert type(net.head).__name__ == "Bent"
    assert sys.modules["parts_of_net.head"] is current
    assert importlib.import_module("parts_of_net.net").x == 1


def test_a_library_that_builds_by_class_path_finds_the_captured_class(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, away: None
) -> None:
    """As Hydra does: it imports by name from a place that is not captured."""
    root = write(
        tmp_path / "then",
        {
            "pyproject.toml": "",
            "boxes/__init__.py": "",
            "boxes/net.py": NET
            + """
from pydoc import locate
import pkgutil
class Net(Base):
    def __init__(self, target="boxes.parts.Part"):
        super().__init__()
        self.save_hyperparameters()
        self.inner = pkgutil.resolve_name(target)(3, 2)
        self.again = locate(target)
    def forward(self, x):
        return self.inner(x)
""",
            "boxes/parts.py": "import torch\nclass Part(torch.nn.Linear):\n    pass\n",
            "train.py": "from saving_for_tests import trained\nfrom boxes.net import Net\ntrained(Net(), 'net.ckpt')\n",
        },
    )
    run(root, "train.py")
    monkeypatch.syspath_prepend(write(tmp_path / "now", {"boxes/__init__.py": "", "boxes/parts.py": "Part = None\n"}))
    net: Any = load_model(root / "net.ckpt", code="snapshot", trust_code=True)
    assert answers_as_then(net, root / "net.ckpt")
    assert net.again is type(net.inner)
