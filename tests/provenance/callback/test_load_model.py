"""A model is rebuilt with the code it was trained with, while the code of now stays what it is."""

from __future__ import annotations

import copy
import importlib
import pickle
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from provenance.snapshots import run, write

from lightning_debugkit.provenance.carried.manifest import Manifest
from lightning_debugkit.provenance.diff.current_code import appeared
from lightning_debugkit.provenance.load_model.loading import load_model

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:lightning", "ignore::FutureWarning")

VERSION_ONE = {
    "pyproject.toml": "",
    "src/bricks/__init__.py": "from bricks.model import Net\n__all__ = ['Net']\nVERSION = 'one'\n",
    "src/bricks/config.py": """
        from dataclasses import dataclass
        from enum import Enum
        class Kind(Enum):
            ROUND = 1
        @dataclass
        class Config:
            width: int = 4
            kind: Kind = Kind.ROUND
        """,
    "src/bricks/layers.py": """
        import torch
        from bricks import ring_a
        VERSION = "one"
        class Scale(torch.nn.Module):
            def __init__(self, by):
                super().__init__()
                self.by = by
            def forward(self, x):
                return x * self.by
        """,
    "src/bricks/ring_a.py": "import bricks.ring_b\ndef a():\n    return bricks.ring_b.b()\n",
    "src/bricks/ring_b.py": """
        import bricks.ring_a as ring
        def b():
            return ring.__name__.rpartition('.')[2] + '-one'
        """,
    "src/bricks/stars.py": "__all__ = ['FACTOR']\nFACTOR = 3.0\nHIDDEN = 0\n",
    "src/bricks/space/act.py": "def act(x):\n    return x.sin()\n",
    "src/bricks/late.py": "WORD = 'late-one'\n",
    "src/bricks/later.py": "WORD = 'later-one'\n",
    "src/bricks/table.json": "[1.5]",
    "src/bricks/unused.py": "def fit(): pass\n",
    "src/bricks/model.py": """
        import importlib
        import importlib.resources
        import json
        from importlib import import_module
        from pathlib import Path
        from typing import TYPE_CHECKING, Optional
        import torch
        from lightning.pytorch import LightningModule
        import bricks.space.act
        from bricks.stars import *
        from . import layers
        from .config import Config
        if TYPE_CHECKING:
            from bricks.unused import fit
        try:
            import bricks.no_such_module
        except ImportError:
            bricks_extra = None
        class Net(LightningModule):
            config: "Optional[Config]"
            def __init__(self, config: Config = Config(), slope: float = 0.5):
                super().__init__()
                self.save_hyperparameters()
                self.inner = torch.nn.Linear(3, config.width)
                self.scale = layers.Scale(FACTOR * slope)
                self.table = json.loads((Path(__file__).parent / "table.json").read_text())[0]
            def forward(self, x):
                return self.scale(bricks.space.act.act(self.inner(x))) + self.table
            def training_step(self, batch, index):
                return self(batch).square().mean()
            def configure_optimizers(self):
                return torch.optim.SGD(self.parameters(), 0.1)
            def words(self):
                from bricks.late import WORD
                import bricks.layers as named
                return [
                    WORD, named.VERSION, import_module("bricks.later").WORD,
                    importlib.import_module(".late", "bricks").WORD,
                    json.loads(importlib.resources.files("bricks").joinpath("table.json").read_text())[0],
                    layers.ring_a.a(), __import__("bricks.late").VERSION, layers.__name__.rpartition(".")[2],
                ]
        """,
    "train.py": """
        from saving_for_tests import trained
        from bricks import Net
        from bricks.config import Config
        net = Net(Config(width=5))
        trained(net, "net.ckpt", words=net.words())
        """,
}
VERSION_TWO = {
    "src/bricks/__init__.py": "from bricks.model import Net\n__all__ = ['Net']\nVERSION = 'two'\n",
    "src/bricks/layers.py": "VERSION = 'two'\n",
    "src/bricks/late.py": "WORD = 'late-two'\n",
    "src/bricks/later.py": "WORD = 'later-two'\n",
    "src/bricks/table.json": "[99]",
    "src/bricks/config.py": "from dataclasses import dataclass\n@dataclass\nclass Config:\n    depth: int = 1\n",
    "src/bricks/model.py": """
        import torch
        from lightning.pytorch import LightningModule
        from bricks.config import Config
        class Net(LightningModule):
            def __init__(self, config: Config = Config(), slope: float = 0.25):
                super().__init__()
                self.renamed = torch.nn.Linear(3, 7)
            def forward(self, x):
                return self.renamed(x)
            def words(self):
                from bricks.late import WORD
                return [WORD]
        """,
}


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project as it was trained."""
    root = write(tmp_path_factory.mktemp("one"), VERSION_ONE)
    run(root, "train.py", path=(root / "src",))
    return root


@pytest.fixture
def now(one: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The project of now on the import path: still as it was trained."""
    write(tmp_path, VERSION_ONE)
    monkeypatch.syspath_prepend(tmp_path / "src")
    yield tmp_path / "src"
    for name in [name for name in sys.modules if name.partition(".")[0] == "bricks"]:
        del sys.modules[name]


def told(checkpoint: Path) -> dict[str, Any]:
    held: dict[str, Any] = torch.load(checkpoint.with_suffix(".told"), weights_only=True)
    return held


def bricks() -> dict[str, Any]:
    return {name: module for name, module in sys.modules.items() if name.partition(".")[0] == "bricks"}


def snapshot(checkpoint: Path, **options: Any) -> Any:
    return load_model(checkpoint, code="snapshot", trust_code=True, **options)


def test_the_model_answers_bit_for_bit_as_at_training(one: Path, now: Path) -> None:
    write(now.parent, VERSION_TWO)
    new = importlib.import_module("bricks.model").Net()
    before = bricks()
    net = snapshot(one / "net.ckpt").eval()
    then = told(one / "net.ckpt")
    assert torch.equal(net(then["given"]), then["answer"])
    assert bricks() == before
    assert type(new) is sys.modules["bricks.model"].Net
    assert new(then["given"]).shape == (8, 7)


def test_what_it_imports_later_is_of_then(one: Path, now: Path) -> None:
    write(now.parent, VERSION_TWO)
    new = importlib.import_module("bricks.model").Net()
    net = snapshot(one / "net.ckpt")
    words = told(one / "net.ckpt")["words"]
    assert words == ["late-one", "one", "later-one", "late-one", 1.5, "ring_a-one", "one", "layers"]
    assert (net.words(), new.words(), net.words()) == (words, ["late-two"], words)
    assert importlib.import_module("bricks.later").WORD == "later-two"


def test_classes_among_the_hyper_parameters_are_of_then(one: Path, now: Path) -> None:
    write(now.parent, VERSION_TWO)
    net = snapshot(one / "net.ckpt")
    assert net.hparams.config == type(net.hparams.config)(width=5)
    again = pickle.loads(pickle.dumps(net.hparams))
    assert again.config == net.hparams.config
    assert type(again.config) is type(net.hparams.config)
    assert torch.equal(copy.deepcopy(net).inner.weight, net.inner.weight)


def test_given_hyper_parameters_replace_those_of_the_checkpoint(one: Path, now: Path) -> None:
    assert snapshot(one / "net.ckpt", slope=2.0).scale.by == 6.0


def test_a_snapshot_is_loaded_where_nothing_of_the_project_is(one: Path) -> None:
    net = snapshot(one / "net.ckpt").eval()
    then = told(one / "net.ckpt")
    assert torch.equal(net(then["given"]), then["answer"])
    assert bricks() == {}


def test_two_snapshots_of_one_package_live_side_by_side(one: Path, tmp_path: Path) -> None:
    root = write(tmp_path, {**VERSION_ONE, "src/bricks/late.py": "WORD = 'another'\n"})
    run(root, "train.py", path=(root / "src",))
    first, second = snapshot(one / "net.ckpt"), snapshot(root / "net.ckpt")
    assert (first.words()[0], second.words()[0], first.words()[0]) == ("late-one", "another", "late-one")
    assert type(first) is not type(second)
    assert type(snapshot(one / "net.ckpt")) is type(first)


def test_nothing_runs_without_trust(one: Path, now: Path) -> None:
    (now / "bricks" / "model.py").write_text("raise SystemExit")
    before = set(sys.modules)
    with pytest.raises(ValueError, match=r"needs trust_code=True to load '.*net.ckpt' with its snapshot; that "):
        load_model(one / "net.ckpt", code="snapshot")
    with pytest.raises(
        ValueError, match=r"snapshot, as src/bricks/model.py has changed since or cannot be found; that"
    ):
        load_model(one / "net.ckpt")
    with pytest.raises(ValueError, match=r"got no such class, or another file than the captured one; import what"):
        load_model(one / "net.ckpt", code="current")
    assert [name for name in set(sys.modules) - before if "bricks" in name] == []


def test_auto_takes_the_code_of_now_if_it_is_the_same_program(one: Path, now: Path) -> None:
    model = now / "bricks" / "model.py"
    model.write_text("# a comment\n" + model.read_text())
    (now / "bricks" / "unused.py").write_text("def fit(): return 1\n")
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        net: Any = load_model(one / "net.ckpt", trust_code=True)
    assert type(net) is sys.modules["bricks.model"].Net
    then = told(one / "net.ckpt")
    assert torch.equal(net.eval()(then["given"]), then["answer"])


def test_auto_takes_the_snapshot_with_a_warning_if_the_model_has_changed(one: Path, now: Path) -> None:
    layers = now / "bricks" / "layers.py"
    layers.write_text(layers.read_text().replace("self.by = by", "self.by = -by"))
    with pytest.warns(
        UserWarning, match=r"net.ckpt is loaded with its snapshot: src/bricks/layers.py has changed since"
    ):
        net: Any = load_model(one / "net.ckpt", trust_code=True)
    then = told(one / "net.ckpt")
    assert torch.equal(net.eval()(then["given"]), then["answer"])


def test_the_code_of_now_without_trust_unpickles_no_class(one: Path, now: Path) -> None:
    with pytest.raises(
        ValueError, match=r"trust_code=True to unpickle .*bricks.config.Config.* in '.*net.ckpt'; give it"
    ):
        load_model(one / "net.ckpt", code="current")


def test_plain_checkpoints_of_unchanged_code_need_neither_trust_nor_an_import(tmp_path: Path) -> None:
    """In a new process, as people do it."""
    train = """
        from saving_for_tests import trained
        from bricks import Net
        trained(Net(), "net.ckpt")
        """
    load = """
        import torch
        from lightning_debugkit.provenance.load_model.loading import load_model
        net = load_model("net.ckpt").eval()
        told = torch.load("net.told")
        print(type(net).__module__, torch.equal(net(told["given"]), told["answer"]))
        """
    model = VERSION_ONE["src/bricks/model.py"].replace("self.save_hyperparameters()", "pass")
    root = write(tmp_path, {**VERSION_ONE, "src/bricks/model.py": model, "train.py": train, "load.py": load})
    run(root, "train.py", path=(root / "src",))
    assert run(root, "load.py", path=(root / "src",)).split()[-2:] == ["bricks.model", "True"]


def test_auto_sees_a_file_that_wins_an_optional_import(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The captured files are what they were; the model is another one all the same."""
    text = "from bricks import fast\n"
    names = {"bricks/__init__.py": "bricks", "bricks/model.py": "bricks.model"}
    files = [{"path": path, "sha256": "0" * 64, "bytes": 1, "module": name} for path, name in names.items()]
    manifest = Manifest({"format": 1, "id": "x", "source": {"files": files}, "model": {"files": list(names)}})
    (tmp_path / "bricks").mkdir()
    (tmp_path / "bricks/__init__.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    contents = {"bricks/model.py": text.encode()}
    monkeypatch.delitem(sys.modules, "bricks", raising=False)
    assert appeared(manifest, contents) == []
    (tmp_path / "bricks/fast.py").write_text("")
    importlib.invalidate_caches()
    assert appeared(manifest, contents) == ["bricks.fast"]
