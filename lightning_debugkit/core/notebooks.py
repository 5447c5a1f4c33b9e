"""The notebook in which a program runs, if it does, and the names of its cells."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

_recalled: dict[str, str] = {}  # names of cells that were run in another process


def shell() -> Any:
    """Return IPython's shell, ``None`` where no IPython runs."""
    ipython = sys.modules.get("IPython")  # what runs in a notebook has loaded it
    return ipython.get_ipython() if ipython is not None else None


def is_cell(file: str) -> bool:
    """Tell whether a source file is a cell: it has a name, but does not lie on a disk."""
    return "ipykernel_" in file or file.startswith("<ipython")


def cell_name(file: str) -> str:
    """Return a cell's name with its number, as tracebacks of IPython 8 and later have it: ``notebook cell In[3]``."""
    if file in _recalled:
        return _recalled[file]
    named = getattr(getattr(shell(), "compile", None), "format_code_name", None)
    number = named(file) if named is not None else None
    return f"notebook cell {number[1]}" if number else "notebook cell"


def recall_cells(names: Mapping[str, str]) -> None:
    """Let cells of another process have the names that they had there."""
    _recalled.update(names)
