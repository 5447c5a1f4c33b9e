"""Make repositories in every state that users leave them in, and tell whether one was touched."""

from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path

IGNORED = "ignored.log"


def git(folder: Path, *args: str, stdin: bytes = b"") -> bytes:
    """Run git as a user would; it fails loudly."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    command = ["git", "-C", str(folder), "-c", "protocol.file.allow=always", *args]
    done = subprocess.run(command, input=stdin, capture_output=True, env=environment, check=False)
    assert done.returncode == 0, f"{args}: {done.stderr.decode()}"
    return done.stdout


def new(folder: Path, *options: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    git(folder, "init", "-q", *options)
    return folder


def write(folder: Path, **files: str) -> None:
    """``pkg__a_py`` would be ugly: names are given by ``put``."""
    for name, text in files.items():
        put(folder, name.replace("__", "/") + ".py", text.encode())


def put(folder: Path, name: str, data: bytes) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def commit(folder: Path, message: str = "one") -> str:
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "--allow-empty", "-m", message)
    return git(folder, "rev-parse", "HEAD").decode().strip()


def project(folder: Path, *options: str) -> Path:
    """A repository with a file unchanged, one changed, one new and one ignored."""
    new(folder, *options)
    put(folder, ".gitignore", f"{IGNORED}\n".encode())
    write(folder, train="print(1)\n", pkg__model="width = 8\n")
    commit(folder)
    edit(folder)
    return folder


def edit(folder: Path) -> None:
    write(folder, pkg__model="width = 16\n", pkg__new="layers = 2\n")
    put(folder, IGNORED, b"noise\n")


def script(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def files_in(folder: Path) -> dict[bytes, bytes]:
    """Every file and link below, without repositories' own folders and what is ignored."""
    found = {}
    for path in walk(folder):
        name = os.fsencode(path.relative_to(folder))
        if b".git" in name.split(b"/") or path.name == IGNORED:
            continue
        if path.is_symlink():
            found[name] = os.fsencode(path.readlink())
        elif path.is_file():
            found[name] = path.read_bytes()
    return found


def walk(folder: Path) -> list[Path]:
    return [Path(at) / name for at, folders, files in os.walk(folder) for name in [*folders, *files]]


def tree_of(folder: Path, tree: str) -> dict[bytes, bytes]:
    """What a tree holds, read by git; a submodule is the id of its commit."""
    found = {}
    for line in git(folder, "ls-tree", "-r", "-z", tree).split(b"\0"):
        if line:
            head, _, path = line.partition(b"\t")
            _, kind, name = head.split()
            found[path] = git(folder, "cat-file", "blob", name.decode()) if kind == b"blob" else name
    return found


def fingerprint(folder: Path) -> dict[str, object]:
    """All of a folder, repositories included; only our references and objects are not looked at.

    Of every file: its kind, size, time and content. So the index, the head, branches, the stash, the reflog, the
    configuration and the files of the working tree are in it, as bytes.
    """
    found: dict[str, object] = {}
    for path in walk(folder):
        name = os.fsencode(path.relative_to(folder)).decode(errors="backslashreplace")
        parts = Path(name).parts
        if "objects" in parts or "debugkit" in parts:
            continue
        status = path.lstat()
        if path.is_symlink():
            content = str(path.readlink())
        elif path.is_file():
            content = hashlib.sha256(path.read_bytes()).hexdigest()
        else:
            content = ""
        # Git, whatever it is asked, gives the shared part of a split index a new time, so that it is not collected.
        is_timeless = path.is_dir() or path.name.startswith("sharedindex.")
        found[name] = (status.st_mode, content, 0 if is_timeless else (status.st_size, status.st_mtime_ns))
    return found


def objects(folder: Path) -> dict[str, bytes]:
    """The files of every object store below."""
    stores = [path for path in walk(folder) if path.is_dir() and path.name == "objects"]
    return {str(file): file.read_bytes() for store in stores for file in walk(store) if file.is_file()}
