"""Set a folder of checkpoints right after a run was killed in it, and find the newest one that is sound."""

from __future__ import annotations

import contextlib
import re
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning_debugkit.checkpointing.records import (
    DAMAGED,
    FOLDER_RECORD,
    SUFFIX,
    Record,
    head,
    history,
    in_order,
    read_records,
)
from lightning_debugkit.checkpointing.verification import DamagedCheckpoint, damage, digest, mismatch
from lightning_debugkit.core.atomic_files import size_of, sweep_drafts, write_bytes
from lightning_debugkit.core.plain_pickle import NotPlain, plain_data

MANIFEST = "debugkit-manifest"
_OURS = re.compile(r"step-\d+-[0-9a-f]{8}\.ckpt")


@dataclass(frozen=True)
class Repairs:
    """What was set right in a folder."""

    swept: tuple[int, ...] = ()  # sizes of the unfinished files that were removed
    adopted: tuple[str, ...] = ()  # whole files that had no record, and have one now
    # files that are not as they were written, by their new name, and what is wrong
    set_aside: tuple[tuple[str, str], ...] = ()
    lost: tuple[str, ...] = ()  # records whose file is gone

    def __bool__(self) -> bool:
        return bool(self.swept or self.adopted or self.set_aside or self.lost)


def repair(folder: Path, *, suspects: Sequence[str] = (), fsync: bool = True) -> Repairs:
    """Remove what killed writers left, adopt whole files without a record, set aside files that are damaged.

    Only files that carry a name of ours are touched, and none that could be a checkpoint is deleted.

    Args:
        suspects: Names that are known to be damaged, though size and directory are right.
    """
    swept = sweep_drafts(folder)
    lost, set_aside, adopted = [], [], []
    for record in read_records(folder):
        path = folder / record.name
        found = "its bytes are not those that were written" if record.name in suspects else mismatch(path, record)
        if not found:
            continue
        if path.exists():
            set_aside.append((_set_aside(path), found))
        else:
            (folder / (record.name + SUFFIX)).unlink(missing_ok=True)
            lost.append(record.name)
    for path in _without_record(folder):
        orphan = _orphan(path)
        found = damage(path, orphan) if orphan is not None else "nothing in it tells which step it is of"
        if orphan is not None and not found:
            write_bytes(folder / (path.name + SUFFIX), orphan.to_json().encode(), fsync=fsync)
            adopted.append(path.name)
        else:
            set_aside.append((_set_aside(path), found))
    return Repairs(tuple(swept), tuple(adopted), tuple(set_aside), tuple(lost))


def candidates(folder: Path) -> list[Record]:
    """Return the records of a folder, and those that its files without one should have."""
    orphans = [orphan for path in _without_record(folder) if (orphan := _orphan(path)) is not None]
    return [*read_records(folder), *orphans]


def newest_sound(
    records: Sequence[Record], check: Callable[[Record], str], tell: Callable[[Record, str], object], place: str
) -> Record | None:
    """Return the newest of ``records`` with which ``check`` finds no fault, ``None`` if there are none.

    The history in progress comes first, from its end backwards; other fits and branches come after it. Nothing is
    changed: every process that looks finds the same.

    Args:
        check: Returns what is wrong with a checkpoint, empty if it is sound.
        tell: Is told of each newer one that is damaged, and how.
        place: What to call where they lie.

    Raises:
        DamagedCheckpoint: There are records, but none is sound.
    """
    tried = []
    for record in _from_newest(records):
        found = check(record)
        if not found:
            return record
        tried.append(f"{record.name}: {found}")
        tell(record, found)
    if tried:
        raise DamagedCheckpoint(
            f"{place} holds {len(tried)} checkpoints and none is sound ({'; '.join(tried)}); "
            "put a backup there, or move them away to begin anew."
        )
    return None


def read_manifest(path: Path) -> dict[str, Any]:
    """Return what the kit wrote into a checkpoint, without loading a tensor or running any of its code."""
    with contextlib.suppress(NotPlain, OSError, KeyError, TypeError):
        found = plain_data(path)[MANIFEST]
        return found if isinstance(found, dict) else {}
    return {}


def _without_record(folder: Path) -> Iterator[Path]:
    """Files of ours whose record is missing, or cannot be read."""
    known = {record.name for record in read_records(folder)}
    for path in sorted(folder.glob("step-*.ckpt")):
        if _OURS.fullmatch(path.name) and not path.is_symlink() and path.name not in known:
            yield path


def _orphan(path: Path) -> Record | None:
    """Return the record that a file without one should have, ``None`` if it does not say."""
    try:
        if path.is_dir():  # shards: whole or not there under this name, and with the record in it
            record = Record.from_json((path / FOLDER_RECORD).read_text(encoding="utf-8"))
            return record if record.name == path.name and record.shards else None
        record = Record.from_plain(read_manifest(path)["checkpoint"])
        return record.sealed(size_of(path), digest(path)) if record.name == path.name else None
    except (KeyError, ValueError, OSError, zipfile.BadZipFile):
        return None


def _set_aside(path: Path) -> str:
    """Give a damaged file a name under which nothing takes it for a checkpoint; its record goes with it."""
    kept = path.with_name(path.name + DAMAGED)
    path.replace(kept)
    record = path.with_name(path.name + SUFFIX)
    if record.exists():
        record.replace(kept.with_name(kept.name + SUFFIX))
    return kept.name


def _from_newest(records: Sequence[Record]) -> list[Record]:
    newest = head(records)
    if newest is None:
        return []
    way = history(records, newest.run, newest.lineage)[::-1]
    rest = [record for record in in_order(records) if record not in way]
    return [*way, *sorted(rest, key=lambda record: record.time, reverse=True)]
