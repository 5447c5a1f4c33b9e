"""Python texts as trees; what is no program is no fault."""

from __future__ import annotations

import ast

NO_PROGRAM = (SyntaxError, ValueError, RecursionError, MemoryError)  # what parsing raises for one text or another


def parsed(text: bytes | str) -> ast.Module | None:
    """Return the tree of a program, ``None`` if the text is none.

    >>> parsed(b"x = 1") is None, parsed(b"x = ") is None
    (False, True)
    """
    try:
        return ast.parse(text)
    except NO_PROGRAM:
        return None
