"""Let captured modules stand under their own names while a model is built, and put back those of now afterwards."""

from __future__ import annotations

import importlib
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from lightning_debugkit.provenance.capture.project_modules import MAINS
from lightning_debugkit.provenance.load_model.private_import import Alias, Captured

# One at a time: sys.modules is the process's.
_lock = threading.RLock()


@contextmanager
def import_context(captured: Captured, arguments: Sequence[str] = ()) -> Iterator[None]:
    """Let names in pickles and class paths mean the captured modules, within the ``with`` block.

    Other threads that import one of these packages meanwhile get the captured one.

    Args:
        arguments: Command line of the run: a script's class may ask for it.
    """
    with _lock:
        # A copy, here and elsewhere: a thread that imports may change the mapping while a list is made of it.
        saved = {name: module for name, module in sys.modules.copy().items() if _gives_way(name, captured)}
        finder, argv = _ByOwnName(captured), sys.argv
        for name in saved:
            del sys.modules[name]
        show_imported(captured)
        if captured.main is not None:
            for name in MAINS:
                if name in sys.modules:
                    saved[name] = sys.modules[name]
                sys.modules[name] = captured.main
        if arguments:
            sys.argv = list(arguments)
        sys.meta_path.insert(0, finder)
        try:
            yield
        finally:
            sys.meta_path.remove(finder)
            sys.argv = argv
            for name in [name for name in list(sys.modules.copy()) if _gives_way(name, captured)]:
                del sys.modules[name]
            for name in MAINS:
                if sys.modules.get(name) is captured.main:
                    sys.modules.pop(name, None)
            sys.modules.update(saved)


def show_imported(captured: Captured) -> None:
    """Let the captured modules that are imported by now stand too: some libraries only look, and never import."""
    for name, module in sys.modules.copy().items():
        if name.startswith(f"{captured.name}.") and name != captured.private("__main__"):
            sys.modules[name[len(captured.name) + 1 :]] = module


def _gives_way(name: str, captured: Captured) -> bool:
    """Other people's part of a namespace package stays where it is."""
    top = name.partition(".")[0]
    return captured.has(name) or (captured.owns(name) and top not in captured.namespaces)


class _ByOwnName(MetaPathFinder):
    def __init__(self, captured: Captured) -> None:
        self.captured = captured

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if not self.captured.has(fullname):
            return None
        module: ModuleType = importlib.import_module(self.captured.private(fullname))
        return ModuleSpec(fullname, Alias(module))
