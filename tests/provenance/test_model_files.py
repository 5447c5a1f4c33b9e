"""Every file that can change what the model computes counts as the model's."""

from __future__ import annotations

from typing import Any

import pytest

from lightning_debugkit.provenance.by_name import imported_by_name
from lightning_debugkit.provenance.model_files import model_part

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
    assert imported_by_name(b"def") == (set(), False)


def test_data_of_its_package_counts_where_the_model_reads_such_files() -> None:
    reads = b"from pathlib import Path\nTABLE = Path(__file__).with_name('data') / 'table.json'\n"
    assert files_of(layers=reads) == sorted([*USUAL, "pkg/data/table.json"])
