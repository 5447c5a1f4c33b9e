"""``lightning-debugkit refs``: care for the side references of runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from jsonargparse import ArgumentParser

from lightning_debugkit.cli.outcome import Told

if TYPE_CHECKING:
    from lightning_debugkit.provenance.repository.side_refs import RunRef

HELP = "list, prune or push the references of runs"
Action = Literal["list", "prune", "push"]


def make_parser() -> ArgumentParser:
    parser = ArgumentParser(description="Care for refs/debugkit/*, where the code of each run is kept in a repository.")
    parser.add_argument("action", choices=get_args(Action), help="what to do with them")
    parser.add_argument("--remote", type=str, default="origin", help="where to push")
    parser.add_argument("--path", type=str, default=".", help="folder in the repository")
    parser.add_argument("--keep", type=int, help="how many of the newest to keep")
    parser.add_argument("--older-than-days", type=float, help="delete only those of before")
    parser.add_argument("--dry-run", action="store_true", help="only tell what would be deleted")
    return parser


def run(
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


def _reference(reference: RunRef) -> str:
    outcome = reference.trailers.get("Debugkit-Outcome", "unfinished")
    return f"{reference.id}  {reference.when[:16].replace('T', ' ')}  {outcome}  {reference.subject}"
