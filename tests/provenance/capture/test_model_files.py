"""Every file that can change what the model computes counts as the model's."""

from __future__ import annotations

from typing import Any

import pytest

from lightning_debugkit.provenance.capture import imports_by_name
from lightning_debugkit.provenance.capture.imports_by_name import imported_by_name
from lightning_debugkit.provenance.capture.model_files import model_part

TEXTS = {
    "pkg/__init__.py": b"",
    "pkg/model.py": b"from pkg.layers import Block\n",
    "pkg/layers.py": b"class Block: ...\n",
    "pkg/late.py": b"from pkg import deep\n",
    "pkg/deep.py": b"",
    "pkg/encoders.py": b"class Big: ...\n",
    "tools/plot.py": b"",
}


class Net:
    pass


Net.__module__ = "pkg.model"


DATA = ("pkg/data/table.json", "pkg/README.md", "tools/colors.json")


def files_of(made_of: tuple[str, ...] = (), **texts: bytes) -> list[str]:
    contents = {**TEXTS, **{f"pkg/{name}.py": text for name, text in texts.items()}}
    files: list[dict[str, Any]] = []
    for path in contents:
        module = path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        files.append({"path": path, "kind": "module", "module": module})
    files += [{"path": path, "kind": "data", "module": None} for path in DATA]
    return list(model_part(Net, files, contents, made_of)["files"])


USUAL = ["pkg/__init__.py", "pkg/layers.py", "pkg/model.py"]


def test_what_is_imported_counts_and_nothing_else() -> None:
    assert files_of() == USUAL


def test_the_classes_of_its_parts_count_though_a_configuration_chose_them() -> None:
    assert files_of(("pkg.encoders", "torch.nn.modules.linear")) == sorted([*USUAL, "pkg/encoders.py"])


@pytest.mark.parametrize(
    "text",
    [
        b"import_module('pkg.late')",
        b"importlib.import_module('.late', 'pkg')",
        b"importlib.import_module('.late', __package__)",
    ],
)
def test_a_module_imported_by_a_name_in_a_string_counts_with_all_it_imports(text: bytes) -> None:
    layers = b"import importlib\nfrom importlib import import_module\ndef f():\n    return " + text
    assert files_of(layers=layers) == sorted([*USUAL, "pkg/late.py", "pkg/deep.py"])


@pytest.mark.parametrize(
    "text", [b"importlib.import_module(name)", b"list(map(import_module, names))", b"__import__(f'pkg.{x}')"]
)
def test_where_names_are_computed_every_captured_module_counts(text: bytes) -> None:
    assert files_of(layers=b"def f(name):\n    return " + text) == sorted(TEXTS)


def test_another_name_for_the_function_hides_nothing() -> None:
    assert imported_by_name(b"from importlib import import_module as load\nload('a')") == (set(), True)


def test_text_that_is_no_python_imports_nothing() -> None:
    assert imported_by_name(b"def import_module") == (set(), False)


def test_text_that_names_no_importer_is_not_even_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a project of hundreds of files that is half of the time."""
    monkeypatch.setattr(imports_by_name, "ast", None)
    assert imported_by_name(b"import a.b\n") == (set(), False)


def test_data_of_its_package_counts_where_the_model_reads_such_files() -> None:
    reads = b"from pathlib import Path\nTABLE = Path(__file__).with_name('data') / 'table.json'\n"
    assert files_of(layers=reads) == sorted([*USUAL, "pkg/data/table.json"])


READS = b"from pathlib import Path\nTABLE = Path(__file__).with_name(NAME)\n"


def of_class(module: str, texts: dict[str, bytes], others: dict[str, str], main: str = "") -> list[str]:
    """The files of a class ``Net`` in ``module``; ``others`` are no Python, by their kind."""
    model = type("Net", (), {"__module__": module})
    files: list[dict[str, Any]] = []
    for path in texts:
        name = path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        kind = "main" if path == main else "module"
        files.append({"path": path, "kind": kind, "module": None if path == main else name})
    files += [{"path": path, "kind": kind, "module": None} for path, kind in others.items()]
    return list(model_part(model, files, texts)["files"])


def test_data_of_a_package_that_is_one_file_counts() -> None:
    texts = {"pkg/__init__.py": READS, "tools/__init__.py": b""}
    others = {"pkg/k.json": "data", "tools/k.json": "data", "setup.yaml": "config"}
    assert of_class("pkg", texts, others) == ["pkg/__init__.py", "pkg/k.json"]


def test_configurations_at_or_below_a_module_that_reads_files_count_but_those_of_tools_do_not() -> None:
    others = {
        "config.yaml": "config",
        "conf/deep/a.yaml": "config",
        "pyproject.toml": "config",
        ".hooks.yaml": "config",
    }
    others |= {"@lib/other.yaml": "config", "README.md": "data"}
    found = ["conf/deep/a.yaml", "config.yaml", "model.py"]
    assert of_class("model", {"model.py": READS}, others) == found
    assert of_class("model", {"model.py": b""}, others) == ["model.py"]
    assert of_class(
        "pkg.model", {"pkg/model.py": READS, "pkg/__init__.py": b""}, {**others, "pkg/c.yaml": "config"}
    ) == [
        "pkg/__init__.py",
        "pkg/c.yaml",
        "pkg/model.py",
    ]


def test_a_captured_file_that_the_model_names_counts_wherever_it_lies() -> None:
    """As a program does that reads from the folder in which it was started."""
    texts = {"pkg/__init__.py": b"", "pkg/model.py": b"SETTINGS = open('settings.yaml').read()\n"}
    others = {"settings.yaml": "config", "more/settings.yml": "config", "pkg/k.json": "data"}
    assert of_class("pkg.model", texts, others) == ["pkg/__init__.py", "pkg/model.py", "settings.yaml"]


def test_of_a_script_only_what_the_class_needs_reads_files() -> None:
    head, tail = b"from pathlib import Path\nHERE = Path(__file__).parent\n", b"print(HERE)\n"
    others = {"config.yaml": "config"}
    unread = {"train.py": head + b"class Net: ...\n" + tail}
    assert of_class("__main__", unread, others, main="train.py") == ["train.py"]
    read = {"train.py": head + b"class Net:\n    here = HERE\n" + tail}
    assert of_class("__main__", read, others, main="train.py") == ["config.yaml", "train.py"]
