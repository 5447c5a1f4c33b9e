"""What a checkpoint says about the code that made it: plain types, checked when read: anybody may have written it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

KEY = "lightning_debugkit"
FORMAT = 1
_LONGEST = 16_000_000  # characters; the manifest of fifty thousand files has ten million
_HUGE = 2**63
_HASH = re.compile(r"[0-9a-f]{64}")
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_MAPPINGS = ("identity", "tree", "source", "model", "environment", "run", "checkpoint")


class NoSnapshot(ValueError):
    """A checkpoint tells nothing of its code; the message says why and what to do."""


class Malformed(ValueError):
    """A manifest is not one of ours, or not one that this version can read."""


@dataclass(frozen=True)
class Manifest:
    """What is known of the code behind a checkpoint; see `docs/code-snapshot.md` for its fields."""

    data: Mapping[str, Any]

    def __getitem__(self, name: str) -> Mapping[str, Any]:
        """Return one part, such as ``identity``; empty if it is not there."""
        part: Mapping[str, Any] = self.data.get(name) or {}
        return part

    @property
    def id(self) -> str:
        """Name of the run."""
        return str(self.data["id"])

    @property
    def files(self) -> list[dict[str, Any]]:
        """The captured files: ``path``, ``sha256``, ``bytes``, ``kind``, ``module``."""
        return list(self["source"].get("files") or ())

    @property
    def model_files(self) -> list[str]:
        """Paths of the files that the model's class uses."""
        return [str(path) for path in self["model"].get("files") or ()]

    @property
    def commit(self) -> str:
        """The commit that was checked out, empty if there was none."""
        return str(self["identity"].get("commit") or "")

    @property
    def is_dirty(self) -> bool:
        """Whether files differed from that commit."""
        return bool(self["identity"].get("dirty"))

    def to_json(self) -> str:
        """Return the manifest as strict JSON."""
        return json.dumps(self.data, ensure_ascii=True, allow_nan=False, separators=(",", ":"))

    def with_checkpoint(self, facts: Mapping[str, Any]) -> Manifest:
        """Return this manifest with what is known of one checkpoint."""
        return Manifest({**self.data, "checkpoint": dict(facts)})

    @classmethod
    def from_json(cls, text: Any) -> Manifest:
        """Return the manifest that ``text`` holds; raises `Malformed` where it is not one, or one of a newer format."""
        if not isinstance(text, str) or len(text) > _LONGEST:
            raise Malformed(f"A manifest needs JSON of at most {_LONGEST:,} characters, got {_told(text)}.")
        try:
            data = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise Malformed(f"A manifest needs JSON, got what is none: {error}.") from error
        _check(data)
        return cls(data)


def embedded(manifest: Manifest, source_zip: bytes | None) -> dict[str, Any]:
    """Return what a checkpoint carries under `KEY`; it loads with ``weights_only=True``."""
    held: dict[str, Any] = {"format": FORMAT, "manifest": manifest.to_json()}
    return held if source_zip is None else {**held, "source_zip": source_zip}


def taken_from(checkpoint: Any) -> tuple[Manifest, bytes | None]:
    """Return manifest and source of a checkpoint in memory.

    Raises:
        NoSnapshot: It carries none.
        Malformed: What it carries cannot be read.
    """
    held = checkpoint.get(KEY) if isinstance(checkpoint, Mapping) else None
    if held is None:
        raise NoSnapshot(
            "This checkpoint carries no code: it was saved without CodeSnapshot, or by hand after a fit in forked "
            "processes. Add CodeSnapshot() to the callbacks of the next run; load this one with its code of then."
        )
    if not isinstance(held, Mapping):
        raise Malformed(f"A snapshot needs a mapping, got {type(held).__name__}.")
    manifest = Manifest.from_json(held.get("manifest"))
    source = held.get("source_zip")
    if source is not None and not isinstance(source, bytes):
        raise Malformed(f"A snapshot needs its source as bytes, got {type(source).__name__}.")
    return manifest, source


def _check(data: Any) -> None:
    if not isinstance(data, dict):
        raise Malformed(f"A manifest needs a mapping, got {type(data).__name__}.")
    version = data.get("format")
    if not isinstance(version, int) or version < 1:
        raise Malformed(f"A manifest needs a format of 1 or above, got {version!r}.")
    if version > FORMAT:
        raise Malformed(f"The manifest has format {version}, this version reads {FORMAT}; update lightning-debugkit.")
    # The id becomes the name of a folder and of a reference.
    if not isinstance(data.get("id"), str) or not _ID.fullmatch(data["id"]) or ".." in data["id"]:
        raise Malformed(f"A manifest needs an id of letters, digits, '.', '_' and '-', got {_told(data.get('id'))}.")
    for name in _MAPPINGS:
        _check_mapping(data, name)
    _check_names(data.get("model") or {})
    _check_lists(data)


def _check_lists(data: Mapping[str, Any]) -> None:
    source, model = data.get("source") or {}, data.get("model") or {}
    _check_mapping(source, "outside")
    for part, name in (("source", "skipped"), ("tree", "skipped"), ("identity", "changed")):
        if not all(isinstance(each, dict) for each in _list(data.get(part) or {}, name)):
            raise Malformed(f"A manifest needs mappings in {part}.{name}, got another thing.")
    for part, name in (("environment", "devices"), ("environment", "arguments"), ("checkpoint", "drifted")):
        _list(data.get(part) or {}, name)
    for file in _list(source, "files"):
        _check_file(file)
    for named in (*_list(source, "import_roots"), *_list(model, "files")):
        if not isinstance(named, str):
            raise Malformed(f"A manifest needs paths as text, got {type(named).__name__}.")


def _check_names(model: Mapping[str, Any]) -> None:
    """The names are looked up: each part of them is an identifier, or Python's ``<locals>``."""
    for name in ("module", "qualname"):
        value = model.get(name)
        parts = value.replace("<locals>", "locals").split(".") if isinstance(value, str) else [""]
        if value is not None and not all(part.isidentifier() for part in parts):
            raise Malformed(f"A manifest needs a dotted name as the model's {name}, got {_told(value)}.")


def _check_mapping(part: Mapping[str, Any], name: str) -> None:
    if not isinstance(part.get(name, {}), dict | None):
        raise Malformed(f"A manifest needs a mapping as {name}, got {type(part[name]).__name__}.")


def _check_file(file: Any) -> None:
    if not isinstance(file, dict) or not isinstance(file.get("path"), str):
        raise Malformed(f"A manifest needs a path for each file, got {_told(file)}.")
    size, digest = file.get("bytes"), file.get("sha256")
    if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size < _HUGE:
        raise Malformed(f"A manifest needs the bytes of {file['path'][:200]!r} as a number from 0, got {_told(size)}.")
    if not isinstance(digest, str) or not _HASH.fullmatch(digest):
        raise Malformed(f"A manifest needs the SHA-256 of {file['path'][:200]!r}, got {_told(digest)}.")
    if not all(isinstance(name, str) for name in _list(file, "aliases")):
        raise Malformed(f"A manifest needs the aliases of {file['path'][:200]!r} as text.")
    if not isinstance(file.get("module"), str | None):
        raise Malformed(f"A manifest needs the module of {file['path'][:200]!r} as text, got {_told(file['module'])}.")


def _list(part: Mapping[str, Any], name: str) -> list[Any]:
    held = part.get(name) or []
    if not isinstance(held, list):
        raise Malformed(f"A manifest needs a list of {name}, got {type(held).__name__}.")
    return held


def _told(value: Any) -> str:
    if isinstance(value, int) and abs(value) >= _HUGE:
        return "a number beyond all sizes"  # it may have thousands of digits
    return f"{len(value):,} characters" if isinstance(value, str) and len(value) > 200 else repr(value)[:200]
