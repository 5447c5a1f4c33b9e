"""The cells that a notebook has run, as one Python file."""

from __future__ import annotations

import ast
from typing import Any

from lightning_debugkit.core.notebooks import shell
from lightning_debugkit.provenance.capture.parsing import NO_PROGRAM

CELLS = "notebook_cells.py"
_RUNS_ITS_BODY = frozenset({"time", "timeit", "capture", "prun"})


def notebook_source() -> str | None:
    """Return the cells that IPython has run so far, magics left out, or ``None`` where no IPython runs."""
    running = shell()
    if running is None:
        return None
    cells = [cell for cell in running.user_ns.get("In", []) if isinstance(cell, str) and cell.strip()]
    texts = [without_magics(cell, running.input_transformer_manager.transform_cell) for cell in cells]
    return "".join(f"# %% cell {number}\n{text.rstrip()}\n\n" for number, text in enumerate(texts, 1) if text.strip())


def without_magics(cell: str, transform: Any) -> str:
    """Return ``cell`` as plain Python: IPython's own ``transform``, then each magic becomes ``pass`` and a comment.

    A cell that is no Python even then (it did not run) becomes empty.
    """
    try:
        text = transform(cell)
        tree = ast.parse(text)
    except NO_PROGRAM:
        return ""
    body = _body_of_cell_magic(tree)
    if body is not None:
        return without_magics(body, transform)
    lines = text.splitlines(keepends=True)
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr | ast.Assign) and _asks_the_shell(node.value):
            _comment_out(lines, node)
    return "".join(lines)


def _body_of_cell_magic(tree: ast.Module) -> str | None:
    """The code under ``%%time`` and its like, whose names stay; that of ``%%bash`` is no Python."""
    if len(tree.body) != 1 or not isinstance(tree.body[0], ast.Expr):
        return None
    call = tree.body[0].value
    if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr == "run_cell_magic"):
        return None
    name, _, body = (arg.value if isinstance(arg, ast.Constant) else "" for arg in call.args)
    return str(body) if name in _RUNS_ITS_BODY else ""


def _asks_the_shell(node: ast.AST) -> bool:
    calls = (inner.func for inner in ast.walk(node) if isinstance(inner, ast.Call))
    return any(isinstance(func, ast.Name) and func.id == "get_ipython" for func in calls)


def _comment_out(lines: list[str], node: ast.stmt) -> None:
    first, last = node.lineno - 1, (node.end_lineno or node.lineno) - 1
    indent = lines[first][: node.col_offset]
    told = " ".join(" ".join(lines[first : last + 1]).split())
    lines[first : last + 1] = [f"{indent}pass  # {told}\n"] + ["#\n"] * (last - first)
