"""Find a checkpoint that lies here, or in an object store, or in both."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from lightning_debugkit.checkpointing.keep_reasons import present
from lightning_debugkit.checkpointing.model_checkpoint_view import ModelCheckpointView, model_checkpoint_view
from lightning_debugkit.checkpointing.object_store import (
    ObjectStore,
    StrangeShards,
    is_url,
    local_path,
    missing_package,
)
from lightning_debugkit.checkpointing.records import Record, read_records
from lightning_debugkit.checkpointing.repair import candidates, newest_sound
from lightning_debugkit.checkpointing.retention_rules import KeepRule, urls_of
from lightning_debugkit.checkpointing.verification import DamagedCheckpoint, damage
from lightning_debugkit.core.atomic_files import alone_in, remove_durably

FETCHED = "fetched"  # folder beside the checkpoints for what was brought from a store
_log = logging.getLogger("lightning_debugkit")


class StoreAway(ConnectionError):
    """An object store cannot be asked for its checkpoints."""


def left_by_earlier_start(folder: Path) -> Path | None:
    """Return the folder of like name, beside the parent of ``folder``, with the youngest checkpoints, if there is one.

    A logger that counts versions gives each start a folder of its own.

    Args:
        folder: Where this start's checkpoints are going to be, such as ``version_1/checkpoints``.
    """
    beside = [each for each in folder.parent.parent.glob(f"*/{folder.name}") if each != folder and candidates(each)]
    return max(beside, key=lambda each: each.stat().st_mtime, default=None)


def stores_of(dirpath: Any, rules: Sequence[KeepRule]) -> list[ObjectStore]:
    """Return the object stores that a folder and rules name."""
    return [ObjectStore(url) for url in urls_of(dirpath, rules)]


def newest_of_all(folder: Path, stores: Sequence[ObjectStore], tell: Callable[[Record, str], object]) -> Path | None:
    """Return the newest checkpoint whose every byte is sound; one that lies in a store is brought here.

    Args:
        folder: Where files are, or wait to be sent.
        stores: Where else they are.
        tell: Is told of each newer one that is damaged, and how.

    Raises:
        DamagedCheckpoint: There are checkpoints, but none is sound.
        StoreAway: A store cannot be asked, and nothing is here: to begin anew might hide what it has.
    """
    here = {record.name: record for record in candidates(folder)}
    there: dict[str, tuple[Record, ObjectStore]] = {}
    for store in stores:
        try:
            there |= {record.name: (record, store) for record in store.records()}
        except Exception as error:
            if not here:
                raise StoreAway(
                    f"{store.url} cannot be asked for its checkpoints ({type(error).__name__}: {error}); try again "
                    "when it is there, or leave ckpt_path out to begin anew."
                ) from error
            _log.warning(f"warning NestedCheckpoint: {store.url} cannot be asked ({error}): only {folder} counts.")
    found: list[Path] = []

    def check(record: Record) -> str:
        wrong = ""
        if record.name in here:
            wrong = damage(folder / record.name, record)
            if not wrong:
                found.append(folder / record.name)
                return ""
        if record.name in there:
            path, wrong = _brought(record, there[record.name][1], folder / FETCHED)
            found.extend([path] if path is not None else [])
        return wrong

    records = {**{name: record for name, (record, _) in there.items()}, **here}
    places = ", ".join([str(folder), *(store.url for store in stores)])
    return found[-1] if newest_sound(list(records.values()), check, tell, places) is not None else None


def _brought(record: Record, store: ObjectStore, folder: Path) -> tuple[Path | None, str]:
    """Bring a checkpoint here, unless it is here; return where it is, or what is wrong with it.

    Of several processes on a machine one brings it, and the others find it.
    """
    with alone_in(folder):
        path = folder / record.name
        if path.exists():
            if not damage(path, record):
                return path, ""
            remove_durably(path)
        try:
            path = store.fetch(record, folder)
        except FileNotFoundError:
            return None, "it is gone"
        except StrangeShards as error:
            return None, str(error)
        wrong = damage(path, record)
        if wrong:
            remove_durably(path)
    return (None, wrong) if wrong else (path, "")


def brought_by_url(url: str, folder: Path) -> Path | None:
    """Bring a checkpoint of a store into ``folder`` and verify it; None if it has no record there.

    Raises:
        DamagedCheckpoint: Its bytes are not those that were written.
    """
    place, _, name = url.rpartition("/")
    store = ObjectStore(place)
    record = store.record(name)
    if record is None:
        return None
    path, wrong = _brought(record, store, folder)
    if path is None:
        raise DamagedCheckpoint(f"{url} is damaged: {wrong}; load another one.")
    return path


@contextlib.contextmanager
def at_hand(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give the local path of a checkpoint; one of an object store is brought here for as long as the context lasts.

    It is verified by its record; where it has none, it is taken as it is.

    Raises:
        ValueError: The package of the store is not installed.
        FileNotFoundError: The store has no such checkpoint.
        DamagedCheckpoint: Its bytes are not those that were written.
    """
    local = local_path(path)
    if local is not None:
        yield local
        return
    url = os.fspath(path).rstrip("/")
    if missing := missing_package(url):
        raise ValueError(f"A package is needed to read {url!r}: {missing}.")
    with tempfile.TemporaryDirectory(prefix="lightning-debugkit-") as folder:
        place, _, name = url.rpartition("/")
        yield brought_by_url(url, Path(folder)) or ObjectStore(place).copy(name, Path(folder))


def forget_fetched(folder: Path) -> None:
    """Delete what was brought from a store to be resumed from, once every rank has loaded it."""
    shutil.rmtree(folder / FETCHED, ignore_errors=True)


def view_before_a_fit(folder: Path, dirpath: Any, rules: tuple[KeepRule, ...]) -> ModelCheckpointView:
    """Return where the files stand that earlier fits left, in a folder or in an object store."""
    if not is_url(dirpath):
        return model_checkpoint_view(lambda record: str(folder / record.name), present(read_records(folder)), rules)
    store = ObjectStore(str(dirpath))
    return model_checkpoint_view(lambda record: store.path(record.name), present(store.records()), rules)
