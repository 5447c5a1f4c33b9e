"""A failing step as a folder: batch, model, random state, code and finding, to run again in a new process."""

from __future__ import annotations

import contextlib
import json
import linecache
import shutil
import sys
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO
from unittest import mock

import torch
from torch import nn

from lightning_debugkit.core.finding import Finding
from lightning_debugkit.core.journal import encode, strict
from lightning_debugkit.core.notebooks import cell_name, is_cell, recall_cells
from lightning_debugkit.core.program_code import is_installed
from lightning_debugkit.core.rng import RandomState
from lightning_debugkit.core.secrets import without_tokens
from lightning_debugkit.data.batches import tensors
from lightning_debugkit.replay import pickling

# A step is packed while the user waits for his exception, and checkpoints hold the weights anyway.
MAX_BYTES = 2_000_000_000
MAX_CODE = 20_000_000  # bytes of sources, as many as a checkpoint carries
_LARGEST_FILE = 1_000_000  # bytes; source files are smaller
Secret = Callable[[str, bytes], "str | None"]


@dataclass(frozen=True)
class Bundle:
    """What was read back of a bundle; ``facts`` say how the step was run."""

    module: nn.Module
    batch: Any
    random: RandomState
    finding: Finding
    facts: Mapping[str, Any]


def save(
    folder: Path,
    module: nn.Module,
    batch: Any,
    random: RandomState,
    finding: Finding,
    facts: Mapping[str, Any],
    *,
    max_bytes: int = MAX_BYTES,
    secret: Secret = lambda name, data: None,
) -> str:
    """Write a bundle into ``folder``; the folder appears whole or not at all.

    Classes of the main script and of notebooks travel inside the pickle, those of project files as copies of the files.

    Args:
        random: Random state in which the step started.
        max_bytes: What model and batch may take of the disk.
        secret: Tells what secret a file of that name and content holds, ``None`` if none: it is left out.

    Raises:
        OSError: The disk has no room for it.

    Returns:
        What was left out, and why; empty if nothing was.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    size = sum(t.numel() * t.element_size() for t in module.state_dict().values() if isinstance(t, torch.Tensor))
    if shutil.disk_usage(folder.parent).free < 2 * min(size, max_bytes) + MAX_CODE:
        raise OSError(f"a bundle needs {size / 1e9:.2g} GB of disk for the model, and {folder.parent} has too little")
    making = folder.with_name(folder.name + ".tmp")
    shutil.rmtree(making, ignore_errors=True)
    making.mkdir(parents=True)
    code = _Code(secret)
    told = without_tokens(finding.to_event())
    event: dict[str, Any] = {"finding": told, "facts": dict(facts), "texts": code.texts()}
    event["cells"] = {name: cell_name(name) for name in event["texts"] if is_cell(name)}
    event["files"] = code.copy(making / "code")
    notes = _pack(making, module, {"batch": batch, "random": random}, max_bytes, secret)
    note = "; ".join([*notes, *code.notes])
    (making / "bundle.json").write_bytes(encode({**strict(event), "note": note}))
    shutil.rmtree(folder, ignore_errors=True)
    making.replace(folder)
    return note


def _pack(making: Path, module: nn.Module, rest: dict[str, Any], max_bytes: int, secret: Secret) -> list[str]:
    """Write model and batch into one file, or what can be written of them into two; return what was left out."""
    try:
        _dump({"module": module, **rest}, making / "step.pkl", max_bytes, secret)
        return []
    except Exception as error:  # a lambda, a lock, a generator on the module: anything may refuse to be pickled
        refused = f"the model cannot be packed ({_said(error)})"
    notes, kept = list[str](), list[str]()
    for name, part in (("batch", rest), ("weights", None)):
        path = making / f"{name}.p{'t' if part is None else 'kl'}"
        try:
            _dump(module.state_dict() if part is None else part, path, max_bytes, secret, by_value=part is not None)
            max_bytes -= path.stat().st_size
            kept.insert(0, name)
        except Exception as error:
            notes.append(f"without {name} ({_said(error)})")
    return [
        f"{refused}: the bundle holds {' and '.join(kept) + ' only' if kept else 'neither weights nor batch'}",
        *notes,
    ]


def _said(error: Exception) -> str:
    return str(error) if isinstance(error, _LeftOut) else f"{type(error).__name__}: {error}"


def load(folder: Path, trust_code: bool = False) -> Bundle:
    """Read a bundle back, which runs the code that is in it.

    Raises:
        FileNotFoundError: ``folder`` is no bundle.
        ValueError: The model could not be packed when the bundle was written, or its code is not trusted.
    """
    folder = Path(folder)
    head = folder / "bundle.json"
    if not head.is_file():
        raise FileNotFoundError(f"replay needs a bundle folder with a bundle.json, got {str(folder)!r}.")
    event = json.loads(head.read_text())
    if not (folder / "step.pkl").is_file():
        raise ValueError(f"replay needs a bundle with its model, got one without: {event['note']}.")
    if not trust_code:
        raise ValueError(
            f"replay needs trust_code=True (--trust-code on the command line) to run the code in {str(folder)!r}; "
            "it runs with your rights: give it for your own bundles, and if you trust who made the folder."
        )
    _recall(event["texts"])
    recall_cells(event.get("cells", {}))
    with importing(folder):
        step = torch.load(folder / "step.pkl", map_location="cpu", weights_only=False)
    return Bundle(step["module"], step["batch"], step["random"], Finding.from_event(event["finding"]), event["facts"])


@contextlib.contextmanager
def importing(folder: Path) -> Iterator[None]:
    """Let imports find the code of a bundle first, and what lay beside its script last, within the ``with`` block.

    Afterwards the names of modules mean what they meant before, but for those that were imported meanwhile.
    """
    texts = json.loads((folder / "bundle.json").read_text())["texts"]
    beside = {str(Path(name).parent) for name in texts if Path(name).parent.is_dir()}
    with mock.patch.object(sys, "path", [str(folder / "code"), *sys.path, *sorted(beside)]):
        yield


class _LeftOut(Exception):  # not an error: the reason is noted
    """This is not to be written."""


class _Bounded:
    """A file that takes so many bytes."""

    def __init__(self, file: BinaryIO, max_bytes: int) -> None:
        self.file, self.left = file, max_bytes

    def write(self, data: Any) -> int:
        self.left -= len(data)
        if self.left < 0:
            raise _LeftOut
        return self.file.write(data)

    def flush(self) -> None:
        self.file.flush()


def _dump(step: dict[str, Any], path: Path, max_bytes: int, secret: Secret, by_value: bool = True) -> None:
    try:
        with path.open("wb") as file:
            bounded = _Bounded(file, max_bytes)
            module = {"pickle_module": pickling.alone(tensors(step["batch"]))} if by_value else {}
            try:
                torch.save(step, bounded, **module)  # type: ignore[arg-type]  # that it writes is all that is asked
            except Exception as error:
                if bounded.left < 0:  # torch tells of a position in a file
                    raise _LeftOut(f"more than {max_bytes:,} bytes") from error
                raise
        if found := secret(path.name, _strings(path)):
            raise _LeftOut(found)
    except Exception:
        path.unlink(missing_ok=True)
        raise


def _strings(path: Path) -> bytes:
    """Return the part of a file of torch that is no tensor's: attributes, constants of functions, texts of a batch."""
    with zipfile.ZipFile(path) as file:
        return b"".join(file.read(name) for name in file.namelist() if name.endswith("/data.pkl"))


class _Code:
    """The sources that a bundle takes along, but for those that hold a secret or are too many."""

    def __init__(self, secret: Secret) -> None:
        self.secret = secret
        self.left = MAX_CODE
        self.notes: list[str] = []

    def texts(self) -> dict[str, str]:
        """Return the lines of classes that travel in the pickle, by file: of the main script and of notebook cells."""
        texts = {}
        main = getattr(sys.modules.get("__main__"), "__file__", None)
        if main and Path(main).is_file() and Path(main).stat().st_size <= _LARGEST_FILE:
            texts[str(Path(main).absolute())] = Path(main).read_text(errors="replace")
        for name, entry in linecache.cache.items():
            if is_cell(name) and len(entry) == 4:
                texts[name] = "".join(entry[2])
        return {name: text for name, text in texts.items() if self._takes(Path(name).name, text.encode())}

    def copy(self, folder: Path) -> list[str]:
        """Copy the project's imported files so that they can be imported from ``folder``; return their names."""
        copied = []
        for name, file, data in _project_files():
            parts = name.split(".")
            target = folder.joinpath(*parts)
            target = target / "__init__.py" if file.name == "__init__.py" else target.with_suffix(".py")
            if self._takes(str(target.relative_to(folder)), data):
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(data)
                copied.append(str(target.relative_to(folder)))
        return sorted(copied)

    def _takes(self, name: str, data: bytes) -> bool:
        reason = self.secret(name, data)
        if reason is None and len(data) > self.left:
            reason = f"more than {MAX_CODE:,} bytes of code"
        if reason is not None:
            self.notes.append(f"without the source of {name} ({reason})")
            return False
        self.left -= len(data)
        return True


def _recall(texts: Mapping[str, str]) -> None:
    """Let a traceback show those lines as they were, whatever the files hold now."""
    for name, text in texts.items():
        linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)


def _project_files() -> Iterator[tuple[str, Path, bytes]]:
    for name, module in sys.modules.copy().items():
        file = getattr(module, "__file__", None)
        if not file or name in ("__main__", "__mp_main__") or name.partition(".")[0] == "lightning_debugkit":
            continue
        path = Path(file)
        data = _source(module, path) if path.suffix == ".py" and not is_installed(file) else None
        if data is not None:
            yield name, path, data


def _source(module: Any, path: Path) -> bytes | None:
    """Return the source of a module, ``None`` if it has none or too large a one; the loader has that of a zip file."""
    if path.is_file():
        return path.read_bytes() if path.stat().st_size <= _LARGEST_FILE else None
    try:
        data: bytes = module.__loader__.get_data(str(path))
    except (AttributeError, OSError):
        return None
    return data if len(data) <= _LARGEST_FILE else None
