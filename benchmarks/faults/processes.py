"""A process for each program, forked from one that has imported torch and Lightning: half of a small run is imports."""

from __future__ import annotations

import contextlib
import os
import runpy
import signal
import sys
import traceback
from collections.abc import Mapping, Sequence
from multiprocessing import get_context, set_start_method
from pathlib import Path

# What the programs import; the kit is not among it, so that it comes as it does to a person: by its entry point.
_PRELOADED = ["lightning", "torch", "torchmetrics", "sklearn.datasets", "pandas", __name__]
_OURS = ("LIGHTNING_DEBUGKIT", "PYTEST", "PL_")

_context = get_context("forkserver")


def begin_with(modules: Sequence[str]) -> None:
    """Name what the process imports that all others are forked from; before the first of them."""
    _context.set_forkserver_preload(list(modules))


begin_with(_PRELOADED)


def execute(folder: Path, script: str, environment: Mapping[str, str], limit: float) -> tuple[int | None, str]:
    """Run ``script`` in ``folder`` as a person would.

    Args:
        folder: Where it runs, and where its modules are.
        script: The program.
        environment: Variables that are added.
        limit: Seconds.

    Returns:
        The exit code, ``None`` if it was out of time, and all that it printed.
    """
    (folder / "train.py").write_text(script, encoding="utf-8")
    printed = folder.with_suffix(".txt")
    process = _context.Process(target=_child, args=(str(folder), str(printed), dict(environment)))
    process.start()
    process.join(limit)
    code = process.exitcode
    if process.pid is not None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # workers that it left, and itself where it is out of time
    process.join()
    try:
        return code, printed.read_text(encoding="utf-8", errors="replace")
    finally:
        printed.unlink(missing_ok=True)


def _child(folder: str, printed: str, environment: dict[str, str]) -> None:
    os.setsid()
    set_start_method(None, force=True)  # of the workers that a program starts: as it would have been, not as we were
    output = os.open(printed, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(output, stream)
    for name in [name for name in os.environ if name.startswith(_OURS)]:
        del os.environ[name]
    os.environ.update(environment)
    os.chdir(folder)
    sys.path.insert(0, folder)
    sys.argv = ["train.py"]
    try:
        runpy.run_path(str(Path(folder, "train.py")), run_name="__main__")
    except SystemExit as left:
        if isinstance(left.code, str):
            sys.stdout.flush()  # both go into one file, in the order in which they were said
            print(left.code, file=sys.stderr)
            raise SystemExit(1) from None
        raise
    except BaseException:
        traceback.print_exc()
        raise SystemExit(1) from None
