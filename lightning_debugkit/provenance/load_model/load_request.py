"""A checkpoint that is to be loaded as a model, and what may run for it."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from lightning_debugkit.checkpointing.shard_metadata import META
from lightning_debugkit.core.compat import BUILDER
from lightning_debugkit.provenance.carried.archive import Archive, RefusedArchive, open_archive
from lightning_debugkit.provenance.carried.manifest import Manifest


@dataclass(frozen=True)
class Request:
    """A checkpoint and how its model is to be loaded."""

    named: str  # as the user named it
    path: Path  # where it is on a local disk
    manifest: Manifest
    source: bytes | None
    map_location: Any
    strict: bool | None
    hyper_parameters: Mapping[str, Any]

    @property
    def module(self) -> str:
        return str(self.manifest["model"].get("module") or "")

    @property
    def qualname(self) -> str:
        return str(self.manifest["model"].get("qualname") or "")

    @property
    def class_mapping(self) -> dict[Any, int]:
        """Which label of the whole dataset each class was, where a `ClassSubset` was learned."""
        held = self.manifest["checkpoint"].get("class_mapping")
        labels = held.get("labels") if isinstance(held, Mapping) else None
        known = [label for label in labels if isinstance(label, int | str)] if isinstance(labels, list) else []
        return {old: new for new, old in enumerate(known)}

    def archive(self) -> Archive:
        """Return the sources; raises `ValueError` where there are none, or they are not as they were captured."""
        if self.source is None:
            raise ValueError(
                f"load_model needs the source within the checkpoint, got {self.named!r} with hashes only; get its "
                f'code back{whence(self.manifest)}, put it on the import path and load with code="current".'
            )
        try:
            return open_archive(self.source, self.manifest.files)
        except RefusedArchive as error:
            raise ValueError(f"load_model needs sources as they were captured, got {self.named!r}: {error}.") from error


def whence(manifest: Manifest) -> str:
    """Return where git has the code, in words that begin with a space; empty if it has not."""
    tree = manifest["tree"]
    if tree.get("present") and tree.get("ref"):
        return f" (git worktree add --detach FOLDER {tree['ref']})"
    return f" (commit {manifest.commit})" if manifest.commit else ""


def demand_trust(trust_code: bool, request: Request, because: str) -> None:
    """Refuse to run captured code without trust, with the reason why it would have to."""
    if not trust_code:
        told = f", as {because}" if because else ""
        raise ValueError(
            f"load_model needs trust_code=True to load {request.named!r} with its snapshot{told}; that runs "
            "the captured code and unpickles its classes with your rights: give it if you trust who made the file."
        )


def demand_plain(request: Request) -> None:
    """Refuse what would run at a word of the checkpoint, classes and builders: not every Lightning would."""
    plain = request.path / META if request.path.is_dir() else request.path
    try:
        held = torch.load(plain, map_location="meta", weights_only=True)
    except pickle.UnpicklingError as error:
        named = torch.serialization.get_unsafe_globals_in_checkpoint(plain)
        raise ValueError(
            f"load_model needs trust_code=True to unpickle {', '.join(named)} in {request.named!r}; "
            "give it if you trust who made the file."
        ) from error
    parts = [part for part in held.values() if isinstance(part, Mapping)] if isinstance(held, Mapping) else []
    # Lightning hands the hyper-parameters to what is named here, and that imports and calls what they name.
    builders = [part[BUILDER] for part in parts if part.get(BUILDER) is not None]
    if builders:
        raise ValueError(
            f"load_model needs trust_code=True to build the model of {request.named!r} by {builders[0]!r}, as "
            "LightningCLI does; its hyper-parameters may name any class: give it if you trust who made the "
            "file."
        )
