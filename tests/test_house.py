"""The house keeps its shape: arrows run one way, files stay short, every rule has one name."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

import lightning_debugkit

PACKAGE = Path(lightning_debugkit.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))
OWN = "lightning_debugkit"
LIGHTNING = {"lightning", "pytorch_lightning", "lightning_fabric"}


def imports(path: Path, *, at_import: bool = False) -> Iterator[str]:
    """Every module that ``path`` imports, dotted; with ``at_import`` only those it needs to be imported itself."""
    waiting: list[ast.AST] = [ast.parse(path.read_text())]
    while waiting:
        node = waiting.pop()
        late = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        typed = isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")
        if at_import and (late or typed):
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        waiting.extend(ast.iter_child_nodes(node))


def room(path: Path) -> str:
    """``stats`` for stats/depth.py, ``journal`` for journal.py."""
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def rooms_of(path: Path) -> set[str]:
    """The rooms of the package that ``path`` imports from, its own left out."""
    own = (name.split(".") for name in imports(path) if name.split(".")[0] == OWN)
    return {parts[1] if len(parts) > 1 else "" for parts in own} - {room(path)}


def in_room(name: str) -> list[Path]:
    found = [path for path in FILES if room(path) == name]
    assert found, f"no file in {name}"
    return found


ALLOWED = {
    "finding": set(),
    "journal": {"finding"},
    "stats": set(),
    "data": set(),
    "replay": {"finding", "journal", "data"},
    "checkpoints": set(),
    "provenance": set(),
    "report": {"finding", "journal"},
    "callbacks": {"finding", "journal", "stats", "data", "replay", "checkpoints", "provenance", "report"},
    "preflight": {"finding", "data", "replay", "callbacks"},
    "presets": {"callbacks", "preflight"},
    "autoload": {"presets", "callbacks"},
}


@pytest.mark.parametrize("name", ALLOWED)
def test_arrows_run_one_way(name: str) -> None:
    drawn = {str(path.relative_to(PACKAGE)): rooms_of(path) - ALLOWED[name] for path in in_room(name)}
    assert {path: rooms for path, rooms in drawn.items() if rooms} == {}


def test_lightning_enters_by_the_callbacks_only() -> None:
    """Presets, autoload, command line and demo may, but only when they are called, and typing may always."""
    late = {"presets", "autoload", "cli", "code_commands", "demo", "__main__"}
    wrong = []
    for path in FILES:
        if room(path) == "callbacks" or path.name == "callback.py":
            continue
        found = imports(path, at_import=room(path) in late | {"__init__"})
        if room(path) == "demo":
            continue  # a program of the kit's user, not a part of the kit
        wrong += [f"{path.relative_to(PACKAGE)}: {name}" for name in found if name.split(".")[0] in LIGHTNING]
    assert wrong == []


def test_the_walk_sees_imports_within_functions(tmp_path: Path) -> None:
    """A house test that sees nothing would always pass."""
    file = tmp_path / "file.py"
    file.write_text("import a.b\ndef f():\n    from c import d\n")
    assert sorted(imports(file)) == ["a.b", "c.d"]
    assert list(imports(file, at_import=True)) == ["a.b"]
    assert any(name.split(".")[0] in LIGHTNING for path in in_room("callbacks") for name in imports(path))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_file_stays_below_300_lines(path: Path) -> None:
    assert len(path.read_text().splitlines()) < 300


def rules() -> Counter[str]:
    """The first argument of every ``Rule(...)`` in the package."""
    names: Counter[str] = Counter()
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Rule":
                first = node.args[0] if node.args else next(k.value for k in node.keywords if k.arg == "name")
                assert isinstance(first, ast.Constant), f"{path}:{node.lineno}: a rule's name is written out"
                names[first.value] += 1
    return names


def test_a_rule_is_declared_once() -> None:
    found = rules()
    assert len(found) > 20
    assert [name for name, times in found.items() if times > 1] == []


def test_a_rule_is_called_in_kebab_case() -> None:
    assert [name for name in rules() if not re.fullmatch(r"[a-z]+(-[a-z]+)*", name)] == []
