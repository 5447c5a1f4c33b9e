"""Which modules a program imports by names in strings, as far as its text tells."""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Iterator

from lightning_debugkit.provenance.capture.parsing import parsed

_IMPORTERS = ("import_module", "__import__")
_LISTERS = ("iter_modules", "walk_packages")


def imported_by_name(text: bytes, package: str = "") -> tuple[set[str], bool]:
    """Return the modules that a program imports by a name that it spells out, and whether it imports others so, too.

    Args:
        package: Package that relative names are of.

    >>> imported_by_name(b"import_module('a.b')"), imported_by_name(b"import_module(name)")
    (({'a.b'}, False), (set(), True))
    """
    if not any(name.encode() in text for name in (*_IMPORTERS, *_LISTERS)):
        return set(), False  # hardly a file does, and parsing takes its time
    if (tree := parsed(text)) is None:
        return set(), False
    spelt: set[str] = set()
    known: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and _name(node.func) in _IMPORTERS:
            name = _spelt(node, package)
            if name is not None:
                spelt.add(name)
                known.add(id(node.func))
    return spelt, any(id(node) not in known for node in _mentions(tree))


def _mentions(tree: ast.AST) -> Iterator[ast.AST]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            if any(alias.name in _IMPORTERS and alias.asname for alias in node.names):
                yield node
        elif _name(node) in (*_IMPORTERS, *_LISTERS):
            yield node


def _name(node: ast.AST) -> str | None:
    return getattr(node, "attr", None) or getattr(node, "id", None)


def _spelt(call: ast.Call, package: str) -> str | None:
    values = [argument.value if isinstance(argument, ast.Constant) else None for argument in call.args[:2]]
    name = values[0] if values else None
    if not isinstance(name, str):
        return None
    if not name.startswith("."):
        return name
    base = values[1] if len(values) > 1 and isinstance(values[1], str) else package
    try:
        return importlib.util.resolve_name(name, base)
    except ImportError:
        return None
