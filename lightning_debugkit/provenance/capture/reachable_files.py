"""Which captured files a class uses: the imports of its module, followed through the text, without running it."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from lightning_debugkit.provenance.capture.parsing import parsed

_BODIES = ("body", "orelse", "finalbody", "handlers", "cases")


@dataclass
class Reach:
    """Follows imports among the modules of a project.

    A package's ``__init__`` that is reached for one name leads on to where that name comes from, not to all that it
    re-exports: else every file of a package would count as used by every class in it.
    """

    texts: Mapping[str, bytes]  # source of each captured module by its dotted name
    packages: frozenset[str] = frozenset()  # names of those that are packages
    _known: dict[str, _Imports] = field(default_factory=dict, init=False)

    def modules(self, start: Iterable[str]) -> set[str]:
        """Return the captured modules that those in ``start`` use, themselves included."""
        return self._follow([(name, None) for name in start])

    def text_leads(self, text: bytes | str, package: str = "") -> set[str]:
        """Return the captured modules that ``text`` uses, a script or a part of one."""
        return self._follow([lead for node in _Imports.of(text).all for lead in self._of(node, package)])

    def _follow(self, waiting: list[tuple[str, str | None]]) -> set[str]:
        reached: set[str] = set()
        seen: set[tuple[str, str | None]] = set()
        while waiting:
            module, name = waiting.pop()
            if module not in self.texts:
                continue
            if module not in self._known:
                self._known[module] = _Imports.of(self.texts[module])
            imports = self._known[module]
            # Only in a package, and for a name that an import alone binds there; all others ask for the whole module,
            # and it is asked once.
            of_name = imports.binders.get(name) if name is not None and module in self.packages else None
            asked = (module, name if of_name else None)
            if asked not in seen:
                seen.add(asked)
                reached.add(module)
                package = module if module in self.packages else module.rpartition(".")[0]
                waiting.extend(lead for node in of_name or imports.all for lead in self._of(node, package))
        return reached | {parent for module in reached for parent in _parents(module) if parent in self.texts}

    def _of(self, node: ast.Import | ast.ImportFrom, package: str) -> Iterator[tuple[str, str | None]]:
        if isinstance(node, ast.Import):
            yield from ((alias.name, None) for alias in node.names)
            return
        base = _absolute(node, package)
        for alias in node.names:
            inner = f"{base}.{alias.name}"
            if inner in self.texts:
                yield inner, None
            else:
                yield base, None if alias.name == "*" else alias.name


@dataclass(frozen=True)
class _Imports:
    """The imports of one module."""

    all: tuple[ast.Import | ast.ImportFrom, ...]  # every one that can run
    # those that bind a name which no statement at the top level defines
    binders: Mapping[str, list[ast.Import | ast.ImportFrom]]

    @classmethod
    def of(cls, text: bytes | str) -> _Imports:
        tree = parsed(text)
        if tree is None:
            return cls((), {})
        found = tuple(_imports(tree))
        binders: dict[str, list[ast.Import | ast.ImportFrom]] = defaultdict(list)
        for node in found:
            for name in {_bound(alias) for alias in node.names}:
                binders[name].append(node)
        for statement in tree.body:
            for name in _defined(statement):
                binders.pop(name, None)
        return cls(found, dict(binders))


def imported_names(text: bytes | str, package: str) -> set[str]:
    """Return the dotted names of modules that a program imports, those that may be names within a module included."""
    names: set[str] = set()
    for node in _Imports.of(text).all:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        else:
            base = _absolute(node, package)
            names |= {base, *(f"{base}.{alias.name}" for alias in node.names if alias.name != "*")}
    return names


def _imports(tree: ast.AST) -> Iterator[ast.Import | ast.ImportFrom]:
    """Every import that can run; those for type checkers cannot."""
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node
        elif isinstance(node, ast.If) and getattr(node.test, "id", getattr(node.test, "attr", "")) == "TYPE_CHECKING":
            waiting.extend(node.orelse)
        else:
            for body in _BODIES:  # a statement stands nowhere else
                inner = getattr(node, body, ())
                waiting.extend(inner if isinstance(inner, list) else ())


def _absolute(node: ast.ImportFrom, package: str) -> str:
    if not node.level:
        return node.module or ""
    parents = package.split(".")
    base = ".".join(parents[: len(parents) - node.level + 1])
    return ".".join(filter(None, (base, node.module)))


def _bound(alias: ast.alias) -> str:
    return alias.asname or alias.name.partition(".")[0]


def _defined(statement: ast.stmt) -> set[str]:
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return {statement.name}
    nodes = ast.walk(statement) if isinstance(statement, ast.Assign | ast.AnnAssign) else ()
    return {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}


def _parents(module: str) -> Iterator[str]:
    while "." in module:
        module = module.rpartition(".")[0]
        yield module
