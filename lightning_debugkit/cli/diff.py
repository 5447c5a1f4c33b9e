"""``lightning-debugkit diff``: the code of a checkpoint beside that of now, or of another checkpoint."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from jsonargparse import ArgumentParser

from lightning_debugkit.cli.outcome import Told

if TYPE_CHECKING:
    from lightning_debugkit.provenance.carried.manifest import Manifest
    from lightning_debugkit.provenance.diff.comparison import CodeComparison

HELP = "compare the code of a checkpoint with the code of now"


def make_parser() -> ArgumentParser:
    parser = ArgumentParser(
        description="Unified diff from the code of a checkpoint to that of now; status 1 if the model's has changed."
    )
    parser.add_argument("checkpoint", type=str, help="checkpoint file, or URL of one")
    parser.add_argument(
        "path",
        type=str | None,
        nargs="?",
        help="folder of the project, where it was by default; or a second checkpoint",
    )
    return parser


def run(checkpoint: str, path: str | None = None) -> Told:
    """Compare the code of a checkpoint with the project as it is now; status 1 if the model's code has changed."""
    from lightning_debugkit.cli.code_messages import code_verdict
    from lightning_debugkit.provenance.carried.read_checkpoint import read_snapshot
    from lightning_debugkit.provenance.diff.disk_comparison import compare_with_disk, on_disk, unified

    if path is not None and ("://" in path or Path(path).is_file()):
        return _of_two(checkpoint, path)
    manifest, source = read_snapshot(checkpoint)
    root, lines = _project(manifest, path), list[str]()
    comparison = compare_with_disk(manifest, source, on_disk(manifest, root), cells=False)
    told = code_verdict(comparison, root)
    # A root that only the checkpoint names may be any folder of the reader's, with private files in it.
    is_known = path is not None or Path.cwd().is_relative_to(root) or root.is_relative_to(Path.cwd())
    if source is not None and is_known:
        lines = list(unified(manifest, source, root))
    elif source is not None and any(file.verdict == "changed" for file in comparison.files):
        told += f"\nName the project to see the differences: lightning-debugkit diff {checkpoint} {root}"
    if any(file.get("kind") == "cells" for file in manifest.files):
        told += "\nThe run was started from a notebook, whose cells are not compared; the files that they import are."
    if source is None:
        told += "\nThe checkpoint carries hashes only: its sources were too large to travel with it."
    return _printed(told, lines, comparison)


def _of_two(first: str, second: str) -> Told:
    """Compare the code of two checkpoints; status 1 if that of the model is not the same."""
    from lightning_debugkit.cli.code_messages import code_verdict
    from lightning_debugkit.provenance.carried.read_checkpoint import read_snapshot
    from lightning_debugkit.provenance.carried.restore_run import restore_run
    from lightning_debugkit.provenance.diff.disk_comparison import compare_with_disk, on_disk, unified

    manifest, source = read_snapshot(first)
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch) / "code"
        restore_run(*read_snapshot(second), root)
        comparison = compare_with_disk(manifest, source, on_disk(manifest, root), cells=False)
        told = code_verdict(comparison, Path(second))
        lines = [] if source is None else list(unified(manifest, source, root))
    if source is None:
        told += f"\n{first} carries hashes only: its sources were too large to travel with it."
    return _printed(told, lines, comparison)


def _printed(told: str, lines: list[str], comparison: CodeComparison) -> Told:
    from lightning_debugkit.cli.code_messages import harmless

    # Lines before the first file are passed over by patch and by git apply.
    if sys.stdout.isatty():
        lines = [harmless(line) for line in lines]
    return "\n".join([*(f"# {line}" for line in told.splitlines()), *lines]), int(comparison.model == "changed")


def _project(manifest: Manifest, path: str | None) -> Path:
    if path is not None:
        if not Path(path).is_dir():
            raise FileNotFoundError(f"diff needs the folder of a project or a second checkpoint, got {path!r}.")
        return Path(path).resolve()
    recorded = Path(str(manifest["source"].get("root") or ""))
    return recorded if recorded.is_absolute() and recorded.is_dir() else Path.cwd()
