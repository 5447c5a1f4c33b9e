"""The house keeps its shape: arrows run one way, files stay short, every rule has one name."""

from __future__ import annotations

import ast
import functools
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from declared import rules as declared

import lightning_debugkit

PACKAGE = Path(lightning_debugkit.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))
OWN = "lightning_debugkit"
LIGHTNING = {"lightning", "pytorch_lightning", "lightning_fabric"}


@functools.cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def imports(path: Path, *, at_import: bool = False) -> Iterator[str]:
    """Every module that ``path`` imports, dotted; with ``at_import`` only those it needs to be imported itself."""
    waiting: list[ast.AST] = [tree(path)]
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


# What each room may import from, besides itself. What two capabilities need lies in `core`, `stats` or `data`;
# the report knows the journal only, so that yesterday's run renders with today's report.
SHARED = {"core", "stats", "data"}
ALLOWED = {
    "stats": set(),
    "core": {"stats"},
    "data": {"core", "stats"},
    "replay": SHARED,
    "provenance": SHARED | {"replay"},
    "monitors": SHARED | {"replay", "provenance"},
    "preflight": SHARED | {"replay"},
    "evaluation": SHARED | {"replay"},
    "checkpointing": SHARED,
    "checkpoints": {"checkpointing"},
    "report": {"core"},
    "presets": {"core", "data", "monitors", "preflight", "evaluation", "provenance", "checkpointing"},
    "preset_callback": {"core", "presets"},
    "autoload": {"core", "presets"},
}
# Single arrows that run elsewhere, each with its reason.
EXCEPTIONS = {
    ("core/run_sinks.py", "report"): "the end of a run renders its report",
    ("core/run.py", "provenance"): "a run's header names its commit",
    ("evaluation/studies/study.py", "report"): "a study of several runs has one report",
    ("provenance/load_model/", "checkpointing"): "a model is loaded from a checkpoint of any form",
    ("provenance/carried/read_checkpoint.py", "checkpointing"): "so is what a checkpoint says about its code",
}


def is_excepted(path: str, room: str) -> bool:
    return any(path.startswith(file) and room == to for file, to in EXCEPTIONS)


@pytest.mark.parametrize("name", ALLOWED)
def test_arrows_run_one_way(name: str) -> None:
    wrong = {}
    for path in in_room(name):
        file = str(path.relative_to(PACKAGE))
        found = {to for to in rooms_of(path) - ALLOWED[name] if not is_excepted(file, to)}
        if found:
            wrong[file] = found
    assert wrong == {}


def test_every_exception_is_needed() -> None:
    drawn = {(str(path.relative_to(PACKAGE)), to) for path in FILES for to in rooms_of(path)}
    assert [key for key in EXCEPTIONS if not any(f.startswith(key[0]) and to == key[1] for f, to in drawn)] == []


def test_lightning_enters_by_the_callbacks_only() -> None:
    """A room's callback may, and core's; all else has its names from core/compat.py, or late in what a user starts."""
    free = {"core/callback.py", "core/compat.py", "core/run.py", "demo/train.py"}
    wrong = []
    for path in FILES:
        file = str(path.relative_to(PACKAGE))
        if file in free or path.name == "callback.py":
            continue
        found = imports(path, at_import=True)
        wrong += [f"{file}: {name}" for name in found if name.split(".")[0] in LIGHTNING]
    assert wrong == []


def test_the_walk_sees_imports_within_functions(tmp_path: Path) -> None:
    """A house test that sees nothing would always pass."""
    file = tmp_path / "file.py"
    file.write_text("import a.b\ndef f():\n    from c import d\n")
    assert sorted(imports(file)) == ["a.b", "c.d"]
    assert list(imports(file, at_import=True)) == ["a.b"]
    assert any(name.split(".")[0] in LIGHTNING for path in in_room("monitors") for name in imports(path))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_file_stays_below_350_lines(path: Path) -> None:
    assert len(path.read_text().splitlines()) < 350


@functools.cache
def rules() -> Counter[str]:
    """The first argument of every ``Rule(...)`` in the package."""
    names: Counter[str] = Counter()
    for path in FILES:
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Rule":
                first = node.args[0] if node.args else next(k.value for k in node.keywords if k.arg == "name")
                assert isinstance(first, ast.Constant), f"{path}:{node.lineno}: a rule's name is written out"
                names[first.value] += 1
    return names


def test_a_rule_is_declared_once() -> None:
    found = rules()
    assert len(found) > 20
    assert [name for name, times in found.items() if times > 1] == []


def test_a_rule_says_in_which_section_it_belongs() -> None:
    assert [name for name, rule in declared().items() if not rule.section and name in rules()] == []


def test_the_report_concludes_nothing_from_the_name_of_a_rule() -> None:
    """Names of rules stand where they are declared, and in no table elsewhere."""
    names = set(rules()) - {"checkpoint-failed"}  # a series of that name is drawn
    told = [
        f"{path.relative_to(PACKAGE)}:{node.lineno}: {node.value}"
        for path in in_room("report")
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Constant) and node.value in names
    ]
    assert told == []


def test_a_rule_is_called_in_kebab_case() -> None:
    assert [name for name in rules() if not re.fullmatch(r"[a-z]+(-[a-z]+)*", name)] == []


def test_a_class_name_stands_for_one_thing() -> None:
    names = Counter(node.name for path in FILES for node in ast.walk(tree(path)) if isinstance(node, ast.ClassDef))
    assert [name for name, times in names.items() if times > 1] == []


# Files that may know private names of torch and Lightning besides core/compat.py, with the reason.
KNOW_PRIVATE_NAMES = {
    "stats/tensor_norms.py": "stats imports no other room; the names were seen in torch 2.6 to 2.13",
    "monitors/": "they will ask core/compat.py",
    "preflight/": "they will ask core/compat.py",
    "data/": "they will ask core/compat.py",
    "checkpointing/": "they will ask core/compat.py",
    "replay/": "they will ask core/compat.py",
}
OF_PYTHON = {"_Unpickler", "_getframe", "_exit", "_fields", "_replace"}


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__") and name not in OF_PYTHON


def own_names() -> set[str]:
    """Private names that the package gives itself."""
    found = set()
    for node in (node for path in FILES for node in ast.walk(tree(path))):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and ast.unparse(node.value) == "self":
            found.add(node.attr)
    return found


def private_names(path: Path, own: set[str]) -> Iterator[str]:
    """Private names of others that ``path`` imports, or asks an object for."""
    for node in ast.walk(tree(path)):
        found: list[str] = []
        if isinstance(node, ast.ImportFrom) and str(node.module).split(".")[0] != OWN:
            found = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Attribute) and node.attr not in own:
            found = [node.attr]
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("getattr", "hasattr", "setattr", "delattr"):
            name = node.args[1]
            found = [name.value] if isinstance(name, ast.Constant) and name.value not in own else []
        yield from (f"{node.lineno}: {each}" for each in found if any(map(is_private, each.split("."))))


def test_private_names_of_others_stand_in_one_place() -> None:
    own = own_names()
    wrong = {}
    for path in FILES:
        file = str(path.relative_to(PACKAGE))
        if file != "core/compat.py" and not file.startswith(tuple(KNOW_PRIVATE_NAMES)):
            wrong[file] = list(private_names(path, own))
    assert {file: names for file, names in wrong.items() if names} == {}
    assert list(private_names(PACKAGE / "core/compat.py", own))
