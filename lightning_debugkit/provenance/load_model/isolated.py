"""A model in a process of its own: own interpreter, own working folder, own imports."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning_debugkit.provenance.capture.package_files import lies_in
from lightning_debugkit.provenance.capture.project_modules import is_users_file
from lightning_debugkit.provenance.carried.archive import Archive
from lightning_debugkit.provenance.carried.manifest import Manifest
from lightning_debugkit.provenance.carried.restore import restore_files
from lightning_debugkit.provenance.load_model.isolated_child import decoded_call, encoded_call, receive, send

# -I leaves out what the environment and the working folder would put on the import path; argv tells what is on it.
_BOOT = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from lightning_debugkit.provenance.load_model.isolated_child import main; main()"
)
_PATIENCE = 5.0  # seconds that the process gets to end by itself


class IsolatedError(RuntimeError):
    """The model's process has raised or ended; the message holds its traceback."""


class IsolatedModel:
    """A model that runs in another process, in eval mode and without gradients.

    Called like the model, it takes and returns tensors, numbers, text, and lists, tuples and mappings of them. Its code
    sees its own packages under their own names, so that nothing of the snapshot's limits applies; it is no sandbox, as
    it runs with the user's rights. A call that is interrupted, by Ctrl-C or a time limit, ends the process.
    """

    def __init__(
        self,
        path: Path,
        manifest: Manifest,
        archive: Archive,
        map_location: Any = "cpu",
        strict: bool | None = None,
        hyper_parameters: Mapping[str, Any] | None = None,
    ) -> None:
        folder = Path(tempfile.mkdtemp(prefix="lightning-debugkit-"))
        self._lock = threading.Lock()
        self.class_mapping: dict[Any, int] = {}
        self._name = str(manifest["model"].get("qualname"))
        try:
            restore_files(archive, folder / "source")
            roots = [str(root) for root in manifest["source"].get("import_roots") or ()]
            process = subprocess.Popen(
                [sys.executable, "-I", "-c", _BOOT, json.dumps(_import_path(manifest, folder / "source", roots))],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                cwd=folder / "source",
                start_new_session=True,  # a Ctrl-C in the terminal is for this process
            )
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        self._process = process
        self._owner = os.getpid()
        self._closed = "is closed"
        self._end = weakref.finalize(self, _end, process, folder, self._owner)
        main = manifest["source"].get("main")
        entry = next((file for file in manifest.files if file["path"] == main), {})
        wanted = {
            "path": str(path.absolute()),
            "module": str(manifest["model"].get("module")),
            "qualname": str(manifest["model"].get("qualname")),
            "main": main if entry else None,
            "main_module": entry.get("module"),
            "arguments": command_line_of(manifest),
            "map_location": map_location,
            "strict": strict,
            "hyper_parameters": dict(hyper_parameters or {}),
        }
        try:
            self._ask(wanted)
        except BaseException:
            self.close()
            raise

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Return what the model's ``forward`` returns."""
        return self.call("__call__", *args, **kwargs)

    def call(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """Return what a method of the model returns, such as ``predict_step``.

        Raises:
            IsolatedError: It has raised, or its process has ended.
        """
        return self._ask({"method": method, "args": args, "kwargs": kwargs})

    def eval(self) -> IsolatedModel:
        """Return this model: it is in eval mode."""
        return self

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        raise AttributeError(
            f"IsolatedModel needs call({name!r}, ...) for a method of its model, got .{name}; the model itself is in "
            "another process."
        )

    def __repr__(self) -> str:
        state = "running" if self._end.alive else "closed"
        return f"<IsolatedModel of {self._name}, {state}>"

    def close(self) -> None:
        """End the process; safe to call twice."""
        self._end()

    def __enter__(self) -> IsolatedModel:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _ask(self, question: Mapping[str, Any]) -> Any:
        if os.getpid() != self._owner:
            raise IsolatedError("The isolated model answers only the process that has loaded it; load it again here.")
        data = encoded_call(question)  # what cannot be sent is refused before anything is
        with self._lock:
            if not self._end.alive:
                raise IsolatedError(f"The isolated model {self._closed}; load it again.")
            assert self._process.stdin is not None
            assert self._process.stdout is not None
            try:
                send(self._process.stdin, data)
                told = receive(self._process.stdout)
            except (EOFError, BrokenPipeError):
                code = self._process.wait(_PATIENCE)
                raise IsolatedError(f"The process of the isolated model has ended with exit code {code}.") from None
            except BaseException as error:
                # Its answer, or the rest of it, would come as that to the next question.
                self._closed = f"was closed when a call was interrupted ({type(error).__name__})"
                self._end()
                raise
        answer = decoded_call(told)
        if "error" in answer:
            raise IsolatedError(f"{answer['error']}\n\nIn the process of the model:\n{answer['traceback']}")
        return answer["value"]


def command_line_of(manifest: Manifest) -> list[str]:
    """Return the command line of the run, empty if it is not known."""
    told = manifest["environment"].get("arguments")
    return [str(each) for each in told] if isinstance(told, list) else []


def _import_path(manifest: Manifest, source: Path, roots: list[str]) -> list[str]:
    """The captured folders first; those of now, where the same packages lie changed, not at all."""
    kit = str(Path(__file__).resolve().parents[3])
    root = Path(str(manifest["source"].get("root") or "."))
    now = {str(root / each) for each in roots} | {str(Path.cwd()), ""}
    own = [str(file.get("module")) for file in manifest.files if file.get("module") and file["path"][0] != "@"]
    tops = {name.partition(".")[0] for name in own}
    theirs = [entry for entry in sys.path if entry == kit or not (entry in now or _holds(Path(entry), tops))]
    return [*(str(source / each) for each in roots), *([kit] if kit not in theirs else []), *theirs]


def _holds(folder: Path, tops: set[str]) -> bool:
    """Tell whether a folder of the user's has modules of the project: another copy of it."""
    if not is_users_file(folder / "_"):
        return False
    return any(lies_in(folder, top) for top in tops)


def _end(process: subprocess.Popen[bytes], folder: Path, owner: int) -> None:
    if os.getpid() != owner:  # a fork that ends: the model is its parent's
        return
    if process.stdin is not None:
        with contextlib.suppress(OSError):
            process.stdin.close()  # the child ends when it has nothing more to read
    try:
        process.wait(_PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdout is not None:
        process.stdout.close()
    shutil.rmtree(folder, ignore_errors=True)
