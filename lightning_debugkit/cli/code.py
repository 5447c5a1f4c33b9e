"""The commands that read the code behind a checkpoint: show, diff, restore, log, refs."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from jsonargparse import ArgumentParser

if TYPE_CHECKING:
    from lightning_debugkit.provenance.carried.manifest import Manifest
    from lightning_debugkit.provenance.repository.side_refs import RunRef
    from lightning_debugkit.report.experiments import Experiment

Told = tuple[str, int]  # what to print, and the exit status
Form = Literal["table", "markdown", "json"]
Action = Literal["list", "prune", "push"]


def show(checkpoint: str, json: bool = False) -> Told:
    """Tell which code made a checkpoint."""
    from lightning_debugkit.cli.code_messages import shown_code
    from lightning_debugkit.provenance.carried.read_checkpoint import read_snapshot

    manifest, source = read_snapshot(checkpoint)
    return (manifest.to_json() if json else shown_code(manifest, source)), 0


def diff(checkpoint: str, path: str | None = None) -> Told:
    """Compare the code of a checkpoint with the project as it is now; status 1 if the model's code has changed."""
    from lightning_debugkit.cli.code_messages import code_verdict, harmless
    from lightning_debugkit.provenance.carried.read_checkpoint import read_snapshot
    from lightning_debugkit.provenance.diff.disk_comparison import compare_with_disk, on_disk, unified

    if path is not None and Path(path).is_file():
        return _diff_of_two(checkpoint, path)
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
    # Lines before the first file are passed over by patch and by git apply.
    if sys.stdout.isatty():
        lines = [harmless(line) for line in lines]
    return "\n".join([*(f"# {line}" for line in told.splitlines()), *lines]), int(comparison.model == "changed")


def _diff_of_two(first: str, second: str) -> Told:
    """Compare the code of two checkpoints; status 1 if that of the model is not the same."""
    from lightning_debugkit.cli.code_messages import code_verdict, harmless
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
    if sys.stdout.isatty():
        lines = [harmless(line) for line in lines]
    return "\n".join([*(f"# {line}" for line in told.splitlines()), *lines]), int(comparison.model == "changed")


def restore(checkpoint: str, to: str | None = None) -> Told:
    """Write the code of a checkpoint into a new folder, never in place, every file checked by its hash."""
    from lightning_debugkit.cli.code_messages import rerun_command
    from lightning_debugkit.provenance.carried.read_checkpoint import read_snapshot
    from lightning_debugkit.provenance.carried.restore_run import restore_run

    folder = Path(f"{Path(checkpoint).stem}-code" if to is None else to)
    manifest, source = read_snapshot(checkpoint)
    done = restore_run(manifest, source, folder)
    lines = [f"{done.count} files in {folder.resolve()}, {done.origin}", *done.remarks]
    return "\n".join([*lines, "Run it again:", f"  {rerun_command(manifest, folder, checkpoint)}"]), 0


def log(path: str = ".", format: Form = "table") -> Told:
    """Print the experiment log: the runs whose journals lie under a folder, and those that only references tell of."""
    from lightning_debugkit.report import experiments

    folder = Path(path)
    if not folder.is_dir():
        raise FileNotFoundError(f"log needs a folder, got {path!r}; name the one that your runs lie under.")
    runs = experiments.merged_experiments(experiments.experiments(folder), _of_references(folder))
    form = {
        "table": experiments.experiment_table,
        "markdown": experiments.as_markdown,
        "json": experiments.experiments_as_json,
    }[format]
    if not runs and format != "json":
        return f"No run left a journal under {folder.resolve()}.", 0
    return form(runs), 0


def refs(
    action: Action,
    remote: str = "origin",
    path: str = ".",
    keep: int | None = None,
    older_than_days: float | None = None,
    dry_run: bool = False,
) -> Told:
    """List, delete or push the side references of a repository; no other reference is touched."""
    from lightning_debugkit.provenance.repository import side_refs as references
    from lightning_debugkit.provenance.repository.git import Unavailable, open_repository

    if action == "prune" and keep is None and older_than_days is None:
        raise ValueError("refs prune needs --keep N or --older-than-days D; with --dry-run it only tells.")
    try:
        with open_repository(Path(path), 600.0 if action == "push" else 60.0) as repository:
            if action == "list":
                return "\n".join(
                    map(_reference, references.listed_runs(repository))
                ) or "No run has a reference here.", 0
            if action == "push":
                pushed = references.push(repository, remote)
                return f"{len(pushed)} references pushed to {remote}.", 0
            gone = references.prune(repository, keep=keep, older_than_days=older_than_days, dry=dry_run)
            said = "would be deleted" if dry_run else "deleted; git gc frees their space"
            return "\n".join([*gone, f"{len(gone)} references {said}."]), 0
    except Unavailable as error:
        raise ValueError(f"refs {action} cannot be done: {error.words}. {error.advice}".rstrip()) from None


def _project(manifest: Manifest, path: str | None) -> Path:
    if path is not None:
        if not Path(path).is_dir():
            raise FileNotFoundError(f"diff needs the folder of a project or a second checkpoint, got {path!r}.")
        return Path(path).resolve()
    recorded = Path(str(manifest["source"].get("root") or ""))
    return recorded if recorded.is_absolute() and recorded.is_dir() else Path.cwd()


def _of_references(folder: Path) -> list[Experiment]:
    from lightning_debugkit.provenance.repository.git import Unavailable, open_repository
    from lightning_debugkit.provenance.repository.side_refs import listed_runs
    from lightning_debugkit.report.experiments import of_reference

    try:
        with open_repository(folder) as repository:
            return [of_reference(run.id, run.base or "", run.when, run.trailers) for run in listed_runs(repository)]
    except Unavailable:
        return []


def _reference(reference: RunRef) -> str:
    outcome = reference.trailers.get("Debugkit-Outcome", "unfinished")
    return f"{reference.id}  {reference.when[:16].replace('T', ' ')}  {outcome}  {reference.subject}"


def add_to(commands: object) -> None:
    """Add these commands to those of the command line."""
    add = commands.add_subcommand  # type: ignore[attr-defined]  # jsonargparse hands out a private class

    one = ArgumentParser(description="Tell which code made a checkpoint. Safe with any file: nothing in it runs.")
    one.add_argument("checkpoint", type=str, help="checkpoint file, or folder of a sharded one")
    one.add_argument("--json", action="store_true", help="print the whole manifest as JSON")
    add("show", one, help="tell which code made a checkpoint")

    two = ArgumentParser(
        description="Unified diff from the code of a checkpoint to that of now; status 1 if the model's has changed."
    )
    two.add_argument("checkpoint", type=str, help="checkpoint file")
    two.add_argument(
        "path",
        type=str | None,
        nargs="?",
        help="folder of the project, where it was by default; or a second checkpoint",
    )
    add("diff", two, help="compare the code of a checkpoint with the code of now")

    three = ArgumentParser(
        description="Write the code of a checkpoint into a new folder; prints the command that runs it again."
    )
    three.add_argument("checkpoint", type=str, help="checkpoint file")
    three.add_argument(
        "--to",
        type=str | None,
        help="a folder that does not exist yet, or is empty; NAME-code for NAME.ckpt by default",
    )
    add("restore", three, help="write the code of a checkpoint into a new folder")

    four = ArgumentParser(description="The experiment log: what ran, why, from which commit, how it ended.")
    four.add_argument("path", type=str, nargs="?", default=".", help="folder that the runs lie under")
    four.add_argument("--format", type=Form, default="table", help="how to print it")
    add("log", four, help="print the experiment log")

    five = ArgumentParser(description="Care for refs/debugkit/*, where the code of each run is kept in a repository.")
    five.add_argument("action", type=Action, help="what to do with them")
    five.add_argument("--remote", type=str, default="origin", help="where to push")
    five.add_argument("--path", type=str, default=".", help="folder in the repository")
    five.add_argument("--keep", type=int | None, help="how many of the newest to keep")
    five.add_argument("--older-than-days", type=float | None, help="delete only those of before")
    five.add_argument("--dry-run", action="store_true", help="only tell what would be deleted")
    add("refs", five, help="list, prune or push the references of runs")
