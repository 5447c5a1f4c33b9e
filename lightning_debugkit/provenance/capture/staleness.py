"""Whether a file on disk is still the code that runs: it may have been edited after it was imported."""

from __future__ import annotations

import marshal
import os
import sys
import time
from collections.abc import Iterator
from importlib.util import MAGIC_NUMBER
from pathlib import Path
from types import CodeType, FunctionType, ModuleType

from lightning_debugkit.provenance.capture.parsing import NO_PROGRAM

_IMPORTED = time.time()
_CLOCKS = 2.0  # seconds: file systems keep time coarsely, and Python reads a script a moment after it starts


def process_start() -> float:
    """Return when this process began, in seconds since the epoch; where no system tells, when the kit was imported."""
    try:
        fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
        since_boot = int(fields[19]) / os.sysconf("SC_CLK_TCK")
        return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME) + since_boot
    except (OSError, ValueError, IndexError, AttributeError):
        return _IMPORTED


def is_stale(text: bytes, path: Path, changed: float, module: str | None, start: float) -> bool:
    """Tell whether the running code may differ from ``text``, what ``path`` holds now.

    A file last changed before the process began was imported as it is. One changed later (a notebook's project, a file
    that was just touched) is stale if the bytecode of before is not that of the text or, where there is none, if the
    functions that live are not those of the text: a changed constant is not noticed then.

    Args:
        text: What the file holds.
        changed: When it last changed, in seconds since the epoch.
        module: Name it was imported under; ``None`` for a script, which has no bytecode.
        start: When the process began.
    """
    if changed <= start + _CLOCKS:
        return False
    living = sys.modules.get(module or "__main__")
    if living is None:
        return False  # not imported yet: what is there will run
    try:
        code = compile(text, str(path), "exec", dont_inherit=True)
    except NO_PROGRAM:
        return True
    before = _compiled_before(living, changed) if module is not None else None
    if before is not None:
        return before != code  # a file that was written again as it was is no other
    return not set(_living_code(living)) <= set(_inner(code))


def _compiled_before(module: ModuleType, changed: float) -> CodeType | None:
    """Return the module's bytecode if it was made of an older file."""
    try:
        held = Path(str(module.__dict__.get("__cached__"))).read_bytes()
        is_dated = held[4:8] == b"\0\0\0\0"
        if held[:4] != MAGIC_NUMBER or not is_dated or _is_of(held, changed):
            return None
        code = marshal.loads(held[16:])
    except (OSError, ValueError, EOFError, TypeError):
        return None
    return code if isinstance(code, CodeType) else None


def _is_of(held: bytes, changed: float) -> bool:
    return int.from_bytes(held[8:12], "little") == int(changed) & 0xFFFFFFFF


def _inner(code: CodeType) -> Iterator[CodeType]:
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield constant
            yield from _inner(constant)


def _living_code(module: ModuleType) -> Iterator[CodeType]:
    """The code of the functions and methods that the file of ``module`` has made."""
    file = module.__dict__.get("__file__")
    own = [value for value in list(vars(module).values()) if getattr(value, "__module__", None) == module.__name__]
    members = [member for value in own if isinstance(value, type) for member in list(vars(value).values())]
    for value in (*own, *members):
        function = getattr(value, "__func__", None) or getattr(value, "fget", None) or value
        function = getattr(function, "__wrapped__", function)
        if isinstance(function, FunctionType) and function.__code__.co_filename == file:
            yield function.__code__
