"""The files that a class uses are followed through imports, and no others."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest

from lightning_debugkit.provenance.capture import reachable_files
from lightning_debugkit.provenance.capture.reachable_files import Reach

PROJECT = {
    "pkg": b"from .model import Net\nfrom .training import fit\nfrom pkg import heads\n",
    "pkg.model": b"from typing import TYPE_CHECKING\nfrom pkg import Head\nfrom . import layers\n"
    b"if TYPE_CHECKING:\n    from pkg.training import fit\nimport torch\n",
    "pkg.layers": b"def late():\n    import pkg.sub.deep as d\n",
    "pkg.training": b"import pkg.model\nimport script_tools\n",
    "pkg.sub.deep": b"from ..norms import *\n",
    "pkg.norms": b"1 +\n",
    "pkg.heads": b"class Head: ...\n",
    "script_tools": b"",
}
PACKAGES = frozenset({"pkg"})


def reach(**more: bytes) -> Reach:
    return Reach({**PROJECT, **{name.replace("__", "."): text for name, text in more.items()}}, PACKAGES)


def test_imports_are_followed_late_relative_and_starred() -> None:
    found = reach(pkg=b"from .heads import Head\nfrom .training import fit\n").modules(["pkg.model"])
    assert found == {"pkg", "pkg.model", "pkg.layers", "pkg.sub.deep", "pkg.norms", "pkg.heads"}


def test_what_a_package_re_exports_is_used_by_those_who_ask_for_it_only() -> None:
    assert reach().modules(["pkg.heads"]) == {"pkg", "pkg.heads"}


def test_a_name_that_a_package_makes_at_run_time_leads_everywhere() -> None:
    assert "pkg.training" in reach().modules(["pkg.model"])


def test_whole_packages_lead_to_all_they_import() -> None:
    assert {"pkg.training", "script_tools"} <= reach().modules(["pkg"])


def test_rings_end() -> None:
    assert Reach({"a": b"import b", "b": b"import a"}).modules(["a"]) == {"a", "b"}


def test_what_is_not_captured_is_passed_over() -> None:
    assert reach().modules(["numpy", "pkg.gone"]) == set()


def test_a_script_uses_of_a_package_what_it_asks_for() -> None:
    project = reach(pkg=b"from .heads import Head\nfrom .training import fit\n")
    assert project.text_leads("from pkg import Head\nimport numpy\n") == {"pkg", "pkg.heads"}
    assert project.text_leads("from .heads import Head\n", "pkg") == {"pkg", "pkg.heads"}
    assert "pkg.training" in project.text_leads("import pkg\n")
    assert project.text_leads("1 +") == set()


def test_a_module_is_read_once_however_many_names_are_asked_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Five hundred functions of a utils.py, imported by name, were five hundred walks of its text."""
    walks: list[ast.AST] = []
    real = reachable_files._imports

    def counted(tree: ast.AST) -> Iterator[ast.Import | ast.ImportFrom]:
        walks.append(tree)
        return real(tree)

    monkeypatch.setattr(reachable_files, "_imports", counted)
    names = ", ".join(f"f{number}" for number in range(50))
    exports = "\n".join(f"from .part import g{number}" for number in range(50))
    texts = {"utils": b"import deep\n", "deep": b"", "pkg": exports.encode(), "pkg.part": b"import deep\n"}
    texts["net"] = f"from utils import {names}\nfrom pkg import {names.replace('f', 'g')}\n".encode()
    found = Reach(texts, frozenset({"pkg"}))
    assert found.modules(["net"]) == set(texts)
    assert found.modules(["pkg"]) == {"pkg", "pkg.part", "deep"}
    assert len(walks) == len(texts)


def test_an_import_is_seen_wherever_a_statement_may_stand() -> None:
    text = b"""
try:
    import a1
except ImportError:
    import a2
else:
    import a3
finally:
    import a4
match 1:
    case 1:
        import a5
for _ in ():
    import a6
else:
    import a7
async def f():
    async with g():
        import a8
class C:
    if t.TYPE_CHECKING:
        import never
    else:
        import a9
"""
    assert reachable_files.imported_names(text, "") == {f"a{number}" for number in range(1, 10)}
