"""A captured script or notebook as a module, of which only what is asked for runs."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from types import CodeType, ModuleType
from typing import Any

from lightning_debugkit.provenance.capture.left_out import skipped_of, with_unchanged
from lightning_debugkit.provenance.capture.script_slice import NotFound, ScriptSlice
from lightning_debugkit.provenance.carried.archive import Archive
from lightning_debugkit.provenance.carried.manifest import Manifest
from lightning_debugkit.provenance.load_model.private_import import Captured, mount


class MainModule(ModuleType):
    """Stands for ``__main__``: a name that is asked for is made by running the statements that it needs.

    So a class of a training script is rebuilt without training again.

    Args:
        file: Where the script lies.
        package: Package of a script that was run as ``python -m package.train``.
        builtins: Built-in names for it, if not Python's own.

    Raises:
        SyntaxError: ``text`` is no Python.
    """

    def __init__(
        self, name: str, file: str, text: bytes, package: str = "", builtins: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(name)
        self.__file__ = file
        self.__package__ = package
        if builtins is not None:
            self.__dict__["__builtins__"] = builtins
        self.__dict__["_slice"] = ScriptSlice.of(text)
        self.__dict__["_done"] = set()

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("__"):
            self._make(name)
        try:
            return self.__dict__[name]
        except KeyError:
            raise AttributeError(f"the script {self.__file__} has no attribute {name!r}") from None

    def _make(self, name: str) -> None:
        done: set[int] = self.__dict__["_done"]
        try:
            codes = self.__dict__["_slice"].code_of([name], self.__file__, done)
        except NotFound:
            return
        for place, code in codes:
            if place not in done:  # what ran before may have asked for more
                done.add(place)
                self._run(code, place)

    def _run(self, code: CodeType, place: int) -> None:
        try:
            exec(code, self.__dict__)
        except BaseException as error:
            self.__dict__["_done"].discard(place)
            if isinstance(error, SystemExit):  # a command line that the parser does not like
                line = self.__dict__["_slice"].statements[place].node.lineno
                raise ImportError(
                    f"{self.__file__}, line {line}, ends the program ({error}); it cannot be rebuilt."
                ) from error
            raise


def mount_snapshot(manifest: Manifest, archive: Archive) -> Captured:
    """Make the code of a snapshot importable, its script included, and what was left out of it and is here unchanged.

    Raises:
        OSError: The temporary folder cannot be written.
        SyntaxError: The script is no Python.
    """
    whole, found = with_unchanged(archive, manifest)
    known = {file["path"] for file in found}
    skipped = [each for each in skipped_of(manifest) if each.get("path") not in known]
    captured = mount(whole, [*manifest.files, *found], skipped)
    main = manifest["source"].get("main")
    entry = next((file for file in manifest.files if file["path"] == main), None)
    if entry is not None:
        set_main(captured, str(main), entry.get("module"))
    return captured


def set_main(captured: Captured, path: str, module: str | None) -> None:
    """Give ``captured`` its script, once; nothing of it runs yet. Raises `SyntaxError` where it is no Python."""
    if captured.main is None:
        file = str(captured.folder / path)
        package = (module or "").rpartition(".")[0]
        package = captured.private(package) if package else ""
        name = captured.private("__main__")
        captured.main = MainModule(name, file, captured.contents[file], package, captured.builtins)
        sys.modules[name] = captured.main
