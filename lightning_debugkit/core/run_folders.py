"""Where runs lie: a folder each, claimed by one process only; many short fits in one place are lines of an index."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from lightning_debugkit.core.atomic_files import lock
from lightning_debugkit.core.journal import Events, told

INDEX = "debugkit-fits/fits.jsonl"
_JOURNAL = "journal-0.jsonl"
_IGNORE = ".gitignore"
_MOST = 100_000


def claim(base: Path) -> Path:
    """Make and return a folder in ``base`` that no other run has: ``debugkit``, else ``debugkit-1`` and so on.

    Raises:
        OSError: None can be made.
    """
    for number in range(_MOST):
        folder = base / (f"debugkit-{number}" if number else "debugkit")
        if _is_taken(folder):
            continue
        for _ in range(3):  # it may be folded away between the two lines
            with contextlib.suppress(FileNotFoundError):
                folder.mkdir(exist_ok=True)
                try:
                    # Only one of all who try makes the file; a folder alone may be there already, and free.
                    os.close(os.open(folder / _JOURNAL, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644))
                except FileExistsError:
                    break
                _ignored(folder)
                return folder
    raise OSError(f"it holds {_MOST:,} runs; give the Trainer another default_root_dir")


def _ignored(folder: Path) -> None:
    """What a run leaves is no change of the project that trains."""
    (folder / _IGNORE).write_text("*\n", encoding="utf-8")


def _is_taken(folder: Path) -> bool:
    try:
        with os.scandir(folder) as entries:  # a fit of a back-test finds the folders of many others
            return any(entry.name.startswith("journal-") and entry.name.endswith(".jsonl") for entry in entries)
    except FileNotFoundError:
        return False
    except NotADirectoryError:
        return True


def fold(folder: Path) -> str:
    """Turn a run folder that holds a journal and nothing else into a line of the index beside it.

    The first run of a place keeps its folder.

    Returns:
        The name of the line, empty if the folder stays.
    """
    if folder.name == "debugkit" or {path.name for path in folder.iterdir()} - {_JOURNAL, _IGNORE}:
        return ""
    lines = (folder / _JOURNAL).read_bytes().splitlines()
    name = secrets.token_hex(4)
    head = json.dumps({"v": 1, "kind": "fit", "id": name}).encode()
    with _index(folder.parent) as file:
        file.seek(0, os.SEEK_END)
        file.write(head[:-1] + b', "events": [' + b", ".join(lines) + b"]}\n")
    for path in (folder / _IGNORE, folder / _JOURNAL):
        path.unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # somebody has put something there in the meantime
        folder.rmdir()
    return name


def unfold(base: Path, name: str) -> Path:
    """Give a run of the index in ``base`` a folder of its own again, and return it.

    Raises:
        FileNotFoundError: There is no such line.
    """
    with _index(base) as file:
        lines = file.readlines()
        taken = next((line for line in lines if _name(line) == name), None)
        if taken is None:
            raise FileNotFoundError(f"{base / INDEX} has no run {name!r}; it may have its folder back already.")
        folder = claim(base)
        events = json.loads(taken)["events"]
        written = "".join(json.dumps(event, ensure_ascii=False) + "\n" for event in events)
        (folder / _JOURNAL).write_text(written, encoding="utf-8", errors="backslashreplace")
        file.seek(0)
        file.truncate()
        file.writelines(line for line in lines if line is not taken)
    return folder


def folded(index: Path) -> dict[str, Events]:
    """Return the journals of the runs in an index, the oldest first, by the names of their lines."""
    found = {}
    for line in index.read_bytes().splitlines():
        with contextlib.suppress(ValueError, KeyError, TypeError):
            held = json.loads(line)
            found[str(held["id"])] = told(held["events"])
    return found


def _name(line: bytes) -> str | None:
    try:
        return str(json.loads(line)["id"])
    except (ValueError, KeyError, TypeError):
        return None


@contextlib.contextmanager
def _index(base: Path) -> Iterator[IO[bytes]]:
    if not (base / INDEX).exists():
        (base / INDEX).parent.mkdir(exist_ok=True)
        _ignored((base / INDEX).parent)
    handle = os.open(base / INDEX, os.O_RDWR | os.O_CREAT, 0o644)
    with os.fdopen(handle, "r+b") as file:
        lock(file.fileno(), wait=True)
        yield file
