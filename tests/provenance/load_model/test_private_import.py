"""Captured modules stand beside those of now, whatever the layout, and the process is afterwards as it was."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import os
import pickle
import sys
import threading
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lightning_debugkit.provenance.capture.locating import located
from lightning_debugkit.provenance.carried.archive import Archive
from lightning_debugkit.provenance.load_model import private_import
from lightning_debugkit.provenance.load_model.import_context import import_context
from lightning_debugkit.provenance.load_model.main_module import set_main
from lightning_debugkit.provenance.load_model.private_import import Captured, mount


@pytest.fixture(autouse=True)
def away() -> Iterator[None]:
    """What a test imports of its projects is forgotten; what it has mounted stays, as in a real process."""
    yield
    for name in [name for name in sys.modules if name.partition(".")[0] in ("im_pkg", "im_space", "im_script")]:
        del sys.modules[name]


def captured(files: dict[str, str], main: str | None = None, **modules: str) -> Captured:
    contents = {path: text.encode() for path, text in files.items()}
    listed = []
    for path, data in contents.items():
        name = path.removesuffix(".py").replace("/", ".").removesuffix(".__init__")
        kind = "main" if path == main else "module" if path.endswith(".py") else "data"
        module = modules.get(name.replace(".", "_"), name if kind == "module" else None)
        listed.append({"path": path, "sha256": hashlib.sha256(data).hexdigest(), "kind": kind, "module": module})
    found = mount(Archive(contents), listed)
    if main:
        set_main(found, main, None)
    return found


def on_path(root: Path, files: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    monkeypatch.syspath_prepend(root)


def test_nothing_is_imported_before_it_is_asked_for() -> None:
    then = captured({"im_pkg/__init__.py": "import sys; sys.im_ran = True\n"})
    assert not hasattr(sys, "im_ran")
    then.module("im_pkg")
    assert vars(sys).pop("im_ran")


@pytest.mark.parametrize(
    "statement",
    [
        "import im_pkg.sub.leaf as leaf",
        "from im_pkg.sub import leaf",
        "from .sub import leaf",
        "import im_pkg.sub.leaf; leaf = im_pkg.sub.leaf",
        "from im_pkg.sub.leaf import *; import sys; leaf = sys.modules[MODULE]",
        "leaf = __import__('im_pkg.sub.leaf', fromlist=['x'])",
        "import importlib; leaf = importlib.import_module('im_pkg.sub.leaf')",
        "import importlib as i; leaf = i.import_module('.leaf', package='im_pkg.sub')",
        "from importlib import import_module as f; leaf = f(name='im_pkg.sub.leaf')",
        "import pkgutil; leaf = pkgutil.resolve_name('im_pkg.sub.leaf')",
        "exec('from im_pkg.sub import leaf', globals()); leaf = globals()['leaf']",
        "leaf = eval('__import__(\"im_pkg.sub.leaf\").sub.leaf')",
        "import importlib.util as u; assert u.find_spec('im_pkg.sub.leaf').name.startswith('_debugkit_')\n"
        "from im_pkg.sub import leaf",
        "from im_pkg import leaf",
    ],
)
def test_every_way_to_import_leads_to_the_captured_module(
    statement: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_path(tmp_path, {"im_pkg/__init__.py": "", "im_pkg/sub/leaf.py": "WORD = 'now'\n"}, monkeypatch)
    now = importlib.import_module("im_pkg.sub.leaf")
    at_once, late = f"{statement}\n", "def late():\n" + "".join(f"    {line}\n" for line in statement.splitlines())
    files = {
        "im_pkg/__init__.py": "from im_pkg.sub import leaf\n",
        "im_pkg/sub/leaf.py": f"WORD = 'then'\nMODULE = __name__\n# {hash(statement)}\n",
        "im_pkg/user.py": at_once,
        "im_pkg/late.py": late + "    return locals()['leaf']\n",
    }
    then = captured(files)
    assert then.module("im_pkg.user").leaf.WORD == "then"
    if "*" not in statement:
        assert then.module("im_pkg.late").late().WORD == "then"
    assert sys.modules["im_pkg.sub.leaf"] is now
    assert now.WORD == "now"


def test_rings_of_imports_end() -> None:
    then = captured(
        {
            "im_pkg/__init__.py": "",
            "im_pkg/a.py": "from im_pkg import b\nimport im_pkg.b as c\nA = 1\n",
            "im_pkg/b.py": "import im_pkg.a as a\nfrom im_pkg import a as again\ndef f():\n    return a.A, again.A\n",
        }
    )
    assert then.module("im_pkg.a").b.f() == (1, 1)


def test_an_own_import_lets_libraries_through() -> None:
    then = captured({"im_pkg/__init__.py": "import json, importlib.metadata\nfrom collections import abc\n"})
    import json

    assert then.module("im_pkg").json is json
    assert then.module("im_pkg").importlib.metadata is importlib.metadata


def test_data_are_found_beside_the_code() -> None:
    then = captured(
        {
            "im_pkg/__init__.py": "",
            "im_pkg/read.py": "from importlib.resources import files\nimport pkgutil\nfrom pathlib import Path\n"
            "A = files('im_pkg').joinpath('a.txt').read_text()\nB = pkgutil.get_data('im_pkg', 'a.txt')\n"
            "C = (Path(__file__).parent / 'a.txt').read_text()\nD = files(__package__).joinpath('a.txt').read_text()\n",
            "im_pkg/a.txt": "text",
        }
    )
    read = then.module("im_pkg.read")
    assert (read.A, read.B, read.C, read.D) == ("text", b"text", "text", "text")


@pytest.mark.skipif(sys.version_info < (3, 12), reason="before, files() needs to be told")
def test_data_are_found_beside_the_code_that_asks_for_its_own() -> None:
    text = "from importlib.resources import files\nA = files().joinpath('a.txt').read_text()\n"
    then = captured({"im_pkg/__init__.py": "", "im_pkg/ask.py": text, "im_pkg/a.txt": "its own"})
    assert then.module("im_pkg.ask").A == "its own"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no forks")
def test_the_end_of_a_fork_leaves_the_folder() -> None:
    then = captured({"im_pkg/__init__.py": "FORKED = 1\n"})
    fork = os.fork()
    if fork == 0:
        private_import._clear(then.folder.parent, os.getppid())
        os._exit(0)
    os.waitpid(fork, 0)
    assert then.folder.is_dir()


def test_code_on_disk_that_someone_changed_does_not_run() -> None:
    then = captured({"im_pkg/__init__.py": "WORD = 'captured'\n"})
    (then.folder / "im_pkg" / "__init__.py").write_text("WORD = 'changed'\n")
    assert then.module("im_pkg").WORD == "captured"
    assert not list(then.folder.rglob("*.pyc"))


def test_an_extension_that_cannot_be_captured_is_shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = pytest.importorskip("_ctypes_test")
    on_path(tmp_path, {"im_pkg/__init__.py": ""}, monkeypatch)
    (tmp_path / "im_pkg" / Path(compiled.__file__).name).symlink_to(compiled.__file__)
    then = captured({"im_pkg/__init__.py": "from . import _ctypes_test\nfrom im_pkg import _ctypes_test as again\n"})
    assert then.module("im_pkg").again.__name__.endswith("_ctypes_test")


def test_a_module_that_was_not_captured_is_not_taken_from_now(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    on_path(tmp_path, {"im_pkg/__init__.py": "", "im_pkg/new.py": ""}, monkeypatch)
    then = captured({"im_pkg/__init__.py": "def f():\n    import im_pkg.new\n"})
    with pytest.raises(ModuleNotFoundError, match=r"im_pkg\.new"):
        then.module("im_pkg").f()


def test_classes_work_as_classes_do() -> None:
    then = captured(
        {
            "im_pkg/__init__.py": "",
            "im_pkg/net.py": "from __future__ import annotations\nfrom dataclasses import dataclass, field\n"
            "from enum import Enum\nclass Kind(Enum):\n    A = 1\n@dataclass\nclass Config:\n    kind: Kind = Kind.A\n"
            "    more: list[Config] = field(default_factory=list)\nclass Child(Config):\n    def __init__(self):\n"
            "        super().__init__()\n",
        }
    )
    net = then.module("im_pkg.net")
    child = net.Child()
    assert pickle.loads(pickle.dumps(child)) == child
    assert typing.get_type_hints(net.Config)["kind"] is net.Kind
    assert pickle.loads(pickle.dumps(net.Kind.A)) is net.Kind.A


def test_pickles_name_captured_classes_while_they_stand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    on_path(tmp_path, {"im_pkg/__init__.py": "", "im_pkg/deep/cfg.py": "class Config:\n    now = True\n"}, monkeypatch)
    now = importlib.import_module("im_pkg.deep.cfg").Config
    data = pickle.dumps(now())
    then = captured({"im_pkg/__init__.py": "", "im_pkg/deep/cfg.py": "class Config:\n    now = False\n"})
    before, path, finders = dict(sys.modules), list(sys.path), list(sys.meta_path)
    with import_context(then):
        assert not pickle.loads(data).now
        assert importlib.import_module("im_pkg.deep.cfg").__name__.startswith("_debugkit_")
    assert pickle.loads(data).now
    after = {name: module for name, module in sys.modules.items() if not name.startswith("_debugkit_")}
    assert after == {name: module for name, module in before.items() if not name.startswith("_debugkit_")}
    assert (sys.path, sys.meta_path) == (path, finders)
    spec = then.module("im_pkg.deep.cfg").__spec__
    assert spec is not None
    assert spec.name.startswith("_debugkit_")


def test_an_exception_puts_everything_back() -> None:
    then = captured({"im_script.py": "class Net:\n    pass\n"}, main="im_script.py")
    before, argv, seen = {name: sys.modules.get(name) for name in ("__main__", "__mp_main__")}, sys.argv, []

    def fails() -> None:
        with import_context(then, ["script", "--x"]):
            seen.extend(sys.argv)
            seen.extend(pickle.loads(f"c{name}\nNet\n.".encode()) for name in before)
            raise KeyError

    with pytest.raises(KeyError):
        fails()
    assert seen == ["script", "--x", *[then.module("__main__").Net] * 2]
    assert {name: sys.modules.get(name) for name in before} == before
    assert sys.argv is argv


def test_other_peoples_part_of_a_namespace_is_theirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library = tmp_path / "site-packages"
    on_path(library, {"im_space/theirs.py": "WORD = 'theirs'\n"}, monkeypatch)
    theirs = importlib.import_module("im_space.theirs")
    then = captured({"im_space/ours.py": "from im_space import theirs\nimport im_space.theirs as again\n"})
    ours = then.module("im_space.ours")
    assert ours.theirs is theirs
    assert ours.again is theirs
    assert theirs.__spec__ is not None
    assert theirs.__spec__.name == "im_space.theirs"
    with import_context(then):
        assert sys.modules["im_space.theirs"] is theirs


def test_a_script_is_importable_by_its_name_too() -> None:
    then = captured(
        {"im_script.py": "class Net:\n    pass\n", "im_pkg/__init__.py": "from im_script import Net\n"},
        main="im_script.py",
    )
    assert then.module("im_pkg").Net.__name__ == "Net"


def test_one_snapshot_is_mounted_once() -> None:
    files = {"im_pkg/__init__.py": "ONE = object()\n"}
    assert captured(files) is captured(files)
    assert captured(files) is not captured({"im_pkg/__init__.py": "ONE = 1\n"})


def test_threads_that_load_at_once_do_not_meet() -> None:
    found: dict[int, Any] = {}

    def load(number: int) -> None:
        then = captured({"im_pkg/__init__.py": f"WORD = {number}\n"})
        with import_context(then):
            found[number] = importlib.import_module("im_pkg").WORD

    threads = [threading.Thread(target=load, args=(number,)) for number in range(100, 108)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {number: number for number in range(100, 108)}
    assert "im_pkg" not in sys.modules


@pytest.mark.parametrize("name", ["im_pkg", "im_pkg.deep", "im_pkg.deep.leaf", "im_pkg.none", "im_pkg.deep.leaf.more"])
def test_a_module_of_now_is_located_without_importing_it(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_path(tmp_path, {"im_pkg/__init__.py": "", "im_pkg/deep/leaf.py": ""}, monkeypatch)
    spec = located(name)
    assert not [each for each in sys.modules if each.startswith("im_pkg")]
    try:
        usual = importlib.util.find_spec(name)
    except ModuleNotFoundError:
        usual = None
    assert (spec and spec.origin) == (usual and usual.origin)
