"""Which captured files a class uses: the imports of its module, followed through the text, without running it."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field


@dataclass
class Reach:
    """Follows imports among the modules of a project.

    A package's ``__init__`` that is reached for one name leads on to where that name comes from, not to all that it
    re-exports: else every file of a package would count as used by every class in it.

    Args:
        texts: Source of each captured module by its dotted name.
        packages: Names of those that are packages.
    """

    texts: Mapping[str, bytes]
    packages: frozenset[str] = frozenset()
    _trees: dict[str, ast.Module | None] = field(default_factory=dict, init=False)

    def modules(self, start: Iterable[str]) -> set[str]:
        """Return the captured modules that those in ``start`` use, themselves included."""
        return self._follow([(name, None) for name in start])

    def text_leads(self, text: bytes | str, package: str = "") -> set[str]:
        """Return the captured modules that ``text`` uses, a script or a part of one."""
        tree = _parsed(text)
        return self._follow([lead for node in _imports(tree) for lead in self._of(node, package)] if tree else [])

    def _follow(self, waiting: list[tuple[str, str | None]]) -> set[str]:
        reached: set[str] = set()
        seen: set[tuple[str, str | None]] = set()
        while waiting:
            asked = waiting.pop()
            if asked in seen:
                continue
            seen.add(asked)
            module, name = asked
            if module in self.texts:
                reached.add(module)
                waiting.extend(self._leads(module, name))
        return reached | {parent for module in reached for parent in _parents(module) if parent in self.texts}

    def _leads(self, module: str, name: str | None) -> Iterator[tuple[str, str | None]]:
        if module not in self._trees:
            self._trees[module] = _parsed(self.texts[module])
        tree = self._trees[module]
        package = module if module in self.packages else module.rpartition(".")[0]
        nodes = list(_imports(tree)) if tree else []
        if name is not None and module in self.packages and tree is not None:
            binders = [node for node in nodes if any(_bound(alias) == name for alias in node.names)]
            defines = any(name in _defined(statement) for statement in tree.body)
            # A name that no import binds and no statement defines comes from a star or from __getattr__: follow all.
            nodes = binders if binders and not defines else nodes
        for node in nodes:
            yield from self._of(node, package)

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


def imported_names(text: bytes, package: str) -> set[str]:
    """Return the dotted names of modules that a program imports, those that may be names within a module included."""
    tree = _parsed(text)
    names: set[str] = set()
    for node in _imports(tree) if tree else ():
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        else:
            base = _absolute(node, package)
            names |= {base, *(f"{base}.{alias.name}" for alias in node.names if alias.name != "*")}
    return names


def _parsed(text: bytes | str) -> ast.Module | None:
    try:
        return ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _imports(tree: ast.AST) -> Iterator[ast.Import | ast.ImportFrom]:
    """Every import that can run; those for type checkers cannot."""
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node
        elif isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            waiting.extend(node.orelse)
        else:
            waiting.extend(ast.iter_child_nodes(node))


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
