"""Which code is the program's own, and what it names."""

from __future__ import annotations

import sysconfig
from collections.abc import Iterator
from pathlib import PurePath
from types import CodeType

_INSTALLED = tuple({sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")})


def is_installed(file: str) -> bool:
    """Tell whether ``file`` is of the standard library or of an installed package."""
    return file.startswith(_INSTALLED) or "site-packages" in PurePath(file).parts


def names_in(code: CodeType) -> Iterator[str]:
    """Yield the names of globals and attributes that ``code`` uses, in functions within it, too."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from names_in(constant)
