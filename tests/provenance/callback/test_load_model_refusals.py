"""What cannot be loaded is told in one sentence, and a crafted checkpoint runs nothing."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.demos.boring_classes import BoringModel
from provenance.snapshots import carrying

from lightning_debugkit.provenance.carried.manifest import KEY
from lightning_debugkit.provenance.load_model.loading import load_model

NET = b"""
import torch
from pathlib import Path
from lightning.pytorch import LightningModule
Path(__file__).with_name("ran").touch()
class Net(LightningModule):
    def __init__(self):
        super().__init__()
        self.inner = torch.nn.Linear(3, 2)
"""


class Runs:
    """Leaves a file when it is unpickled."""

    def __init__(self, at: Path) -> None:
        self.at = at

    def __reduce__(self) -> Any:
        return (Path.touch, (self.at,))


@pytest.fixture(autouse=True)
def away() -> Iterator[None]:
    """No project of these tests stays imported."""
    yield
    for name in [name for name in sys.modules if name.partition(".")[0] == "boxes"]:
        del sys.modules[name]


def checkpoint(to: Path, held: Any, **more: Any) -> Path:
    """A checkpoint of ``Net`` that carries ``held``."""
    state = {"inner.weight": torch.zeros(2, 3), "inner.bias": torch.ones(2)}
    plain = {"state_dict": state, "pytorch-lightning_version": pl.__version__, "hyper_parameters": {}, **more}
    torch.save({**plain, **held}, to / "net.ckpt")
    return to / "net.ckpt"


def with_model(**options: Any) -> dict[str, Any]:
    model = {"module": "boxes.net", "qualname": "Net", "path": "boxes/net.py", "files": ["boxes/net.py"], **options}
    return carrying({"boxes/__init__.py": b"", "boxes/net.py": NET}, model=model)


def changed(held: dict[str, Any], change: Any) -> dict[str, Any]:
    manifest = json.loads(held[KEY]["manifest"])
    change(manifest)
    return {KEY: {**held[KEY], "manifest": json.dumps(manifest)}}


def snapshot(path: Path, **options: Any) -> Any:
    return load_model(path, code="snapshot", trust_code=True, **options)


def says(text: str) -> Any:
    return pytest.raises(ValueError, match=re.escape(text))


def test_a_checkpoint_made_by_hand_loads(tmp_path: Path) -> None:
    """The refusals below are of this one, changed."""
    assert torch.equal(snapshot(checkpoint(tmp_path, with_model())).inner.bias, torch.ones(2))


def test_no_snapshot(tmp_path: Path) -> None:
    with says("carries no code: it was saved without CodeSnapshot"):
        load_model(checkpoint(tmp_path, {}))


def test_a_snapshot_of_hashes_only(tmp_path: Path) -> None:
    held = with_model()
    del held[KEY]["source_zip"]
    held = changed(held, lambda manifest: manifest.update(tree={"present": True, "ref": "refs/debugkit/runs/made"}))
    with says(
        "got '" + str(tmp_path / "net.ckpt") + "' with hashes only; get its code back (git worktree add --detach "
        'FOLDER refs/debugkit/runs/made), put it on the import path and load with code="current".'
    ):
        snapshot(checkpoint(tmp_path, held))


def test_a_format_of_the_future(tmp_path: Path) -> None:
    with says("The manifest has format 2, this version reads 1; update lightning-debugkit."):
        snapshot(checkpoint(tmp_path, changed(with_model(), lambda manifest: manifest.update(format=2))))


def test_a_class_within_a_function(tmp_path: Path) -> None:
    held = with_model(qualname="build.<locals>.Net")
    with says("load_model needs a class that its module has a name for, got build.<locals>.Net within a function"):
        snapshot(checkpoint(tmp_path, held))


def test_a_class_that_the_source_does_not_name(tmp_path: Path) -> None:
    with says("load_model needs a LightningModule as boxes.net.Gone, got None; the class may be made at run time"):
        snapshot(checkpoint(tmp_path, with_model(qualname="Gone")))


def test_a_module_of_the_package_that_was_left_out(tmp_path: Path) -> None:
    with says("load_model needs the source of boxes.other, got a snapshot without it; its class Net can be loaded"):
        snapshot(checkpoint(tmp_path, with_model(module="boxes.other")))


def test_a_captured_import_of_what_was_left_out_says_why(tmp_path: Path) -> None:
    held = carrying(
        {"boxes/__init__.py": b"", "boxes/net.py": b"import boxes.big\n"},
        model={"module": "boxes.net", "qualname": "Net"},
    )
    skipped = [{"path": "boxes/big.py", "reason": "too large: 3,000,000 bytes", "bytes": 3_000_000}]
    held = changed(held, lambda manifest: manifest["source"].update(skipped=skipped))
    with says(
        "load_model needs all files of the model, got a snapshot without one: The snapshot does not hold boxes.big: "
        "boxes/big.py was left out (too large: 3,000,000 bytes). Put it on the import path as it was;"
    ):
        snapshot(checkpoint(tmp_path, held))


def test_the_class_of_an_installed_library_is_the_installed_one(tmp_path: Path) -> None:
    held = carrying({"train.py": b""}, model={"module": BoringModel.__module__, "qualname": "BoringModel", "files": []})
    path = checkpoint(tmp_path, held, state_dict=BoringModel().state_dict())
    assert type(snapshot(path)) is BoringModel
    assert type(load_model(path)) is BoringModel


@pytest.mark.parametrize("code", ["snapshot", "auto", "current"])
def test_without_trust_neither_code_nor_pickle_runs(tmp_path: Path, code: Any) -> None:
    held = with_model()
    path = checkpoint(tmp_path, held, hyper_parameters={"it": Runs(tmp_path / "ran")})
    with pytest.raises(ValueError):
        load_model(path, code=code)
    assert not list(tmp_path.glob("**/ran"))
    assert "boxes" not in sys.modules


@pytest.mark.parametrize("key", ["hyper_parameters", "hparams", "module_arguments"])
@pytest.mark.parametrize("builder", ["lightning.pytorch.cli.instantiate_module", "boxes.build"])
def test_no_builder_that_the_file_names_is_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str, builder: str
) -> None:
    """Lightning 2.5 calls any; of LightningCLI's the arguments may name any class."""
    (tmp_path / "boxes.py").write_text("raise SystemExit('ran')\n")
    monkeypatch.syspath_prepend(tmp_path)
    held = carrying({"train.py": b""}, model={"module": BoringModel.__module__, "qualname": "BoringModel", "files": []})
    path = checkpoint(tmp_path, held, **{key: {"_instantiator": builder, "act": {"class_path": "boxes.Evil"}}})
    with says(f"load_model needs trust_code=True to build the model of {str(path)!r} by {builder!r}, as LightningCLI"):
        load_model(path)


@pytest.mark.parametrize("key", ["hparams", "module_arguments"])
def test_nor_one_that_is_hidden_in_a_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    (tmp_path / "boxes.py").write_text("raise SystemExit('ran')\n")
    monkeypatch.syspath_prepend(tmp_path)
    held = carrying({"train.py": b""}, model={"module": BoringModel.__module__, "qualname": "BoringModel", "files": []})
    pairs = [("_instantiator", "boxes.build")]
    path = checkpoint(tmp_path, held, state_dict=BoringModel().state_dict(), **{key: pairs})
    assert type(load_model(path)) is BoringModel


def test_the_name_of_a_module_makes_nothing_import(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a crafted file could run any module on the import path."""
    (tmp_path / "boxes.py").write_text("raise SystemExit('ran')\n")
    monkeypatch.syspath_prepend(tmp_path)
    held = carrying({"x.py": b""}, model={"module": "boxes", "qualname": "Net", "files": []})
    for code in ("auto", "current"):
        with says(
            "load_model needs boxes.Net of now, got no such class, or another file than the captured one; import what"
        ):
            load_model(checkpoint(tmp_path, held), code=code)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda m: m["source"]["files"][1].update(path="../../evil.py"), "it has a '..' in it"),
        (lambda m: m["source"]["files"][1].update(path="/tmp/evil.py"), "it is absolute"),
        (lambda m: m["source"]["files"][1].update(sha256="0" * 64), "its SHA-256 differs"),
        (lambda m: m["source"]["files"][1].update(bytes=10**15), "256,000,000 are the most"),
        (lambda m: m["source"]["files"][1].update(bytes=-1), "as a number from 0, got -1"),
        (lambda m: m["source"].update(files=7), "A manifest needs a list of files, got int."),
        (lambda m: m.update(model=[1]), "A manifest needs a mapping as model, got list."),
    ],
)
def test_a_crafted_manifest_is_refused(tmp_path: Path, change: Any, told: str) -> None:
    with says(told):
        snapshot(checkpoint(tmp_path, changed(with_model(), change)))
    assert not list(tmp_path.parent.glob("**/evil.py"))


@pytest.mark.parametrize(
    ("part", "told"),
    [
        ({"environment": {"arguments": 5}}, "A manifest needs a list of arguments, got int."),
        ({"source": {"skipped": 3}}, "A manifest needs a list of skipped, got int."),
        ({"model": {"module": 4, "qualname": None}}, "A manifest needs a dotted name as the model's module, got 4."),
    ],
)
def test_odd_types_in_a_manifest_are_refused(tmp_path: Path, part: dict[str, Any], told: str) -> None:
    def change(manifest: dict[str, Any]) -> None:
        for name, fields in part.items():
            manifest[name] = {**manifest.get(name, {}), **fields}

    with says(told):
        snapshot(checkpoint(tmp_path, changed(with_model(), change)))


def test_deep_json_is_refused(tmp_path: Path) -> None:
    held = with_model()
    held[KEY]["manifest"] = "[" * 1_000_000
    with says("A manifest needs"):
        snapshot(checkpoint(tmp_path, held))


def test_wrong_arguments(tmp_path: Path) -> None:
    with says("load_model needs code to be snapshot, current or auto, got 'old'; take auto."):
        load_model(tmp_path / "x.ckpt", code="old")
    with says("load_model needs code=\"snapshot\" for isolated=True, got 'current'; leave one of them out."):
        load_model(tmp_path / "x.ckpt", code="current", isolated=True)
    with says("load_model needs a checkpoint file or the folder of a sharded one, got"):
        load_model(tmp_path)
    (tmp_path / "last.ckpt").touch()
    with says(f"load_model needs one checkpoint, got the folder '{tmp_path}' of 1; name the file, such as "):
        load_model(tmp_path)


@pytest.mark.parametrize("trust", ["yes", "False", 1, None])
def test_trust_is_a_yes_or_a_no(tmp_path: Path, trust: Any) -> None:
    path = checkpoint(tmp_path, with_model())
    with says(f"load_model needs trust_code True or False, got {trust!r}; the text 'False' would be a yes."):
        load_model(path, code="snapshot", trust_code=trust)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"There is no checkpoint '.*none\.ckpt'; check the path\."):
        load_model(tmp_path / "none.ckpt")


def test_without_trust_only_the_captured_file_is_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name alone could make any script of the user's run."""
    name = f"script_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text("class Net: ...\nraise SystemExit('the script has run')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    path = checkpoint(tmp_path, changed(with_model(), lambda manifest: manifest["model"].update(module=name)))
    with says("got no such class, or another file than the captured one"):
        load_model(path, code="current")
    assert name not in sys.modules


@pytest.mark.parametrize("module", ["boxes.moved", "boxes_of_then.net"])
def test_a_module_that_has_moved_is_told_with_trust_too(tmp_path: Path, module: str) -> None:
    (tmp_path / "boxes").mkdir()
    held = changed(with_model(), lambda manifest: manifest["model"].update(module=module))
    with says(f"load_model needs {module}.Net of now, got no such class"):
        load_model(checkpoint(tmp_path, held), code="current", trust_code=True)
