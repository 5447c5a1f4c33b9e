"""The statements of a script or notebook that a class needs, so that it can be rebuilt without training again."""

from __future__ import annotations

import ast
import builtins
import symtable
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from types import CodeType

from lightning_debugkit.provenance.capture.call_effects import Effects
from lightning_debugkit.provenance.capture.parsing import NO_PROGRAM

_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
_IMPORTS = (ast.Import, ast.ImportFrom)


class NotFound(LookupError):
    """The script has no such name at its top level; the message says which."""


@dataclass(frozen=True)
class Statement:
    """One statement at the top level of a script."""

    node: ast.stmt  # its syntax
    binds: frozenset[str]  # names that it gives a value, or whose value it changes
    uses: frozenset[str]  # names that it needs, now or when what it defines is called

    @property
    def is_star(self) -> bool:
        """Whether it binds names that the text does not tell."""
        return isinstance(self.node, ast.ImportFrom) and self.node.names[0].name == "*"

    @property
    def is_future(self) -> bool:
        """Whether it changes how the rest is compiled."""
        return isinstance(self.node, ast.ImportFrom) and self.node.module == "__future__"

    @property
    def is_definition(self) -> bool:
        """Whether it defines a function or class."""
        return isinstance(self.node, _DEFINITIONS)


@dataclass(frozen=True)
class ScriptSlice:
    """A script as statements, of which some can be chosen.

    What stands under ``if __name__ == "__main__"`` counts as top level: small scripts define classes there.

    >>> script = ScriptSlice.of(b"import torch\\nWIDTH = 8\\nfit(print)\\nclass Net:\\n    w = WIDTH\\n")
    >>> print(script.text_of(["Net"]))
    WIDTH = 8
    class Net:
        w = WIDTH
    """

    statements: tuple[Statement, ...]

    @classmethod
    def of(cls, text: bytes | str) -> ScriptSlice:
        """Return the slice-able form of ``text``; raise ``SyntaxError`` or ``ValueError`` if it is no Python."""
        body = list(_flattened(ast.parse(text).body))
        effects = Effects.of(body)
        return cls(tuple(_statement(node, effects) for node in body))

    def chosen(self, names: Iterable[str]) -> list[int]:
        """Return the places of the statements that ``names`` need, in order.

        Raises:
            NotFound: One of ``names`` is bound nowhere.
        """
        wanted = list(names)
        stars = [place for place, statement in enumerate(self.statements) if statement.is_star]
        for name in wanted:
            if not self._binders(name) and not hasattr(builtins, name) and not stars:
                raise NotFound(f"{name} is defined nowhere at its top level")
        taken = {place for place, statement in enumerate(self.statements) if statement.is_future}
        seen: set[str] = set()
        self._follow(wanted, seen, taken)
        while joining := [place for place in range(len(self.statements)) if self._joins(place, seen, taken)]:
            taken.update(joining)
            self._follow([name for place in joining for name in self.statements[place].uses], seen, taken)
        return sorted(taken)

    def _follow(self, waiting: list[str], seen: set[str], taken: set[int]) -> None:
        """Add to ``seen`` the names that those in ``waiting`` need, to ``taken`` the statements that bind them."""
        stars = [place for place, statement in enumerate(self.statements) if statement.is_star]
        while waiting:
            name = waiting.pop()
            if name in seen:
                continue
            seen.add(name)
            for place in self._binders(name) or ([] if hasattr(builtins, name) else stars):
                if place not in taken:
                    taken.add(place)
                    waiting.extend(self.statements[place].uses)

    def _joins(self, place: int, seen: set[str], taken: set[int]) -> bool:
        """Tell whether a definition that nothing names writes itself into what is needed, as a registry's entries do.

        It can by its decorators and by its bases. What they get from imports is no state of the script.
        """
        node = self.statements[place].node
        if place in taken or not isinstance(node, _DEFINITIONS):
            return False
        hooks = [*node.decorator_list, *(node.bases if isinstance(node, ast.ClassDef) else ())]
        names = {part.id for hook in hooks for part in ast.walk(hook) if isinstance(part, ast.Name)}
        reached: set[str] = set()
        self._follow(list(names), reached, set())
        return any(self._is_made_here(name) for name in reached & seen)

    def _is_made_here(self, name: str) -> bool:
        return any(not isinstance(self.statements[place].node, _IMPORTS) for place in self._binders(name))

    def nodes(self, names: Iterable[str]) -> list[ast.stmt]:
        """Return the syntax of the statements that ``names`` need."""
        return [self.statements[place].node for place in self.chosen(names)]

    def text_of(self, names: Iterable[str]) -> str:
        """Return the statements that ``names`` need as text, without comments."""
        return "\n".join(ast.unparse(node) for node in self.nodes(names))

    def code_of(self, names: Iterable[str], file: str, done: Iterable[int] = ()) -> list[tuple[int, CodeType]]:
        """Return place and code of the statements that ``names`` need and that are not ``done``, at their lines."""
        futures = [s.node for s in self.statements if s.is_future]
        codes = []
        for place in self.chosen(names):
            if place not in set(done):
                node = self.statements[place].node
                body = [node] if node in futures else [*futures, node]
                codes.append((place, compile(ast.Module(body, []), file, "exec", dont_inherit=True)))
        return codes

    def _binders(self, name: str) -> list[int]:
        """The statements that give ``name`` its value; of a definition that was run again, only the last one."""
        places = [place for place, statement in enumerate(self.statements) if name in statement.binds]
        kept: list[int] = []
        later: int | None = None
        for place in reversed(places):
            is_replaced = (
                later is not None
                and self.statements[place].is_definition
                and self.statements[later].is_definition
                and not any(name in self.statements[between].uses for between in range(place + 1, later + 1))
            )
            if not is_replaced:
                kept.append(place)
                later = place
        return kept[::-1]


def _flattened(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    for node in body:
        if isinstance(node, ast.If) and ast.unparse(node.test) in ("__name__ == '__main__'", "'__main__' == __name__"):
            yield from node.body
        else:
            yield node


def _statement(node: ast.stmt, effects: Effects) -> Statement:
    bound, used = _names(node)
    changed = set() if isinstance(node, (*_DEFINITIONS, *_IMPORTS)) else effects.changed(node)
    return Statement(node, frozenset(bound | changed), frozenset(used | _annotated(node)))


def _names(node: ast.stmt) -> tuple[set[str], set[str]]:
    """What ``node`` binds and uses; the compiler's own table knows comprehensions, nested functions and globals."""
    try:
        table = symtable.symtable(ast.unparse(node), "<statement>", "exec")
    except SyntaxError:  # a notebook's top-level await
        names = [inner for inner in ast.walk(node) if isinstance(inner, ast.Name)]
        return {n.id for n in names if isinstance(n.ctx, ast.Store)}, {n.id for n in names}
    symbols = table.get_symbols()
    bound = {symbol.get_name() for symbol in symbols if symbol.is_assigned() or symbol.is_imported()}
    used = {symbol.get_name() for symbol in symbols if symbol.is_referenced()}
    waiting = list(table.get_children())
    while waiting:
        child = waiting.pop()
        used |= {symbol.get_name() for symbol in child.get_symbols() if symbol.is_global()}
        waiting.extend(child.get_children())
    return bound, used


def _annotated(node: ast.stmt) -> set[str]:
    """Names in annotations: those written as text are none for the compiler, and all are none under __future__."""
    names: set[str] = set()
    for inner in ast.walk(node):
        held = (getattr(inner, "annotation", None), getattr(inner, "returns", None))
        for annotation in (each for each in held if isinstance(each, ast.AST)):
            for part in ast.walk(annotation):
                if isinstance(part, ast.Name):
                    names.add(part.id)
                elif isinstance(part, ast.Constant) and isinstance(part.value, str):
                    names |= _named_in(part.value)
    return names


def _named_in(text: str) -> set[str]:
    try:
        return {part.id for part in ast.walk(ast.parse(text, mode="eval")) if isinstance(part, ast.Name)}
    except NO_PROGRAM:
        return set()
