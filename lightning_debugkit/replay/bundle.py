"""A failing step as a folder: batch, model, random state, code and finding, to run again in a new process."""

from __future__ import annotations

import json
import linecache
import shutil
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lightning_debugkit.finding import Finding
from lightning_debugkit.journal import encode, strict
from lightning_debugkit.replay import pickling
from lightning_debugkit.replay.randomness import RandomState

_INSTALLED = tuple({sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")})
_LARGEST_FILE = 1_000_000  # bytes; source files are smaller


@dataclass(frozen=True)
class Bundle:
    """What was read back of a bundle; ``facts`` say how the step was run."""

    module: nn.Module
    batch: Any
    random: RandomState
    finding: Finding
    facts: Mapping[str, Any]


def save(
    folder: Path, module: nn.Module, batch: Any, random: RandomState, finding: Finding, facts: Mapping[str, Any]
) -> str:
    """Write a bundle into ``folder``; the folder appears whole or not at all.

    Classes of the main script and of notebooks travel inside the pickle, those of project files as copies of the files.

    Raises:
        OSError: The disk has no room for it.

    Returns:
        What could not be packed, empty if all of it was.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    size = sum(t.numel() * t.element_size() for t in module.state_dict().values() if isinstance(t, torch.Tensor))
    if shutil.disk_usage(folder.parent).free < 2 * size + _LARGEST_FILE:
        raise OSError(f"a bundle needs {size / 1e9:.2g} GB of disk for the model, and {folder.parent} has too little")
    making = folder.with_name(folder.name + ".tmp")
    shutil.rmtree(making, ignore_errors=True)
    making.mkdir(parents=True)
    event = {
        "finding": finding.to_event(),
        "facts": dict(facts),
        "texts": _texts(),
        "files": _copy_code(making / "code"),
    }
    note = ""
    try:
        _dump({"module": module, "batch": batch, "random": random}, making / "step.pkl")
    except Exception as error:  # a lambda, a lock, a generator on the module: anything may refuse to be pickled
        note = f"the model cannot be pickled ({type(error).__name__}: {error}): the bundle holds weights and batch only"
        (making / "step.pkl").unlink(missing_ok=True)
        torch.save(module.state_dict(), making / "weights.pt")
        _dump({"batch": batch, "random": random}, making / "batch.pkl")
    (making / "bundle.json").write_bytes(encode({**strict(event), "note": note}))
    shutil.rmtree(folder, ignore_errors=True)
    making.replace(folder)
    return note


def load(folder: Path) -> Bundle:
    """Read a bundle back. This runs the code that is in it: load only bundles that you trust.

    Raises:
        FileNotFoundError: ``folder`` is no bundle.
        ValueError: The model could not be packed when the bundle was written.
    """
    folder = Path(folder)
    head = folder / "bundle.json"
    if not head.is_file():
        raise FileNotFoundError(f"replay needs a bundle folder with a bundle.json, got {str(folder)!r}.")
    event = json.loads(head.read_text())
    if not (folder / "step.pkl").is_file():
        raise ValueError(f"replay needs a bundle with its model, got one without: {event['note']}.")
    sys.path.insert(0, str(folder / "code"))
    _recall(event["texts"])
    step = torch.load(folder / "step.pkl", map_location="cpu", weights_only=False)
    return Bundle(step["module"], step["batch"], step["random"], Finding.from_event(event["finding"]), event["facts"])


def _dump(step: dict[str, Any], path: Path) -> None:
    torch.save(step, path, pickle_module=pickling)


def _texts() -> dict[str, str]:
    """Return the lines of classes that travel in the pickle, by file: of the main script and of notebook cells."""
    texts = {}
    main = getattr(sys.modules.get("__main__"), "__file__", None)
    if main and Path(main).is_file() and Path(main).stat().st_size <= _LARGEST_FILE:
        texts[str(Path(main).absolute())] = Path(main).read_text(errors="replace")
    for name, entry in linecache.cache.items():
        if ("ipykernel_" in name or name.startswith("<ipython")) and len(entry) == 4:
            texts[name] = "".join(entry[2])
    return texts


def _recall(texts: Mapping[str, str]) -> None:
    """Let a traceback show those lines as they were, whatever the files hold now."""
    for name, text in texts.items():
        linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
        if Path(name).parent.is_dir():
            sys.path.append(str(Path(name).parent))


def _copy_code(folder: Path) -> list[str]:
    """Copy the project's imported source files so that they can be imported from ``folder``; return their names."""
    copied = []
    for name, file in _project_files():
        parts = name.split(".")
        target = folder.joinpath(*parts)
        target = target / "__init__.py" if file.name == "__init__.py" else target.with_suffix(".py")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, target)
        copied.append(str(target.relative_to(folder)))
    return sorted(copied)


def _project_files() -> Iterator[tuple[str, Path]]:
    for name, module in sys.modules.copy().items():
        file = getattr(module, "__file__", None)
        if not file or name in ("__main__", "__mp_main__") or name.partition(".")[0] == "lightning_debugkit":
            continue
        path = Path(file)
        installed = str(path).startswith(_INSTALLED) or "site-packages" in path.parts
        if path.suffix == ".py" and not installed and path.is_file() and path.stat().st_size <= _LARGEST_FILE:
            yield name, path
