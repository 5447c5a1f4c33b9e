"""Read what a checkpoint says about its code: no class of it is looked up, no tensor is loaded."""

from __future__ import annotations

import codecs
import io
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

from lightning_debugkit.provenance.carried.manifest import Malformed, Manifest, NoSnapshot, taken_from

_LARGEST = 512_000_000  # bytes of pickled plain data: weights lie outside of it
# Instructions of a pickle, each of which may take some seventy bytes of memory; a tensor takes about thirty.
_MOST_STEPS = 20_000_000
# The file of a sharded checkpoint that holds what is no shard: of FSDP and ModelParallel, and of DeepSpeed.
_OF_FOLDERS = ("meta.pt", "checkpoint/mp_rank_00_model_states.pt")


class _Inert:
    """Stands for whatever a checkpoint names: it takes everything and does nothing."""

    def __init__(self, *args: Any, **kwargs: Any) -> None: ...

    def __setstate__(self, state: Any) -> None: ...

    def __setitem__(self, key: Any, value: Any) -> None: ...

    def append(self, item: Any) -> None: ...

    def extend(self, items: Any) -> None: ...

    def add(self, item: Any) -> None: ...


def _encoded(text: Any, encoding: Any = "latin1") -> bytes:
    """Undo how pickle's protocol 2 writes bytes."""
    if not isinstance(text, str) or encoding != "latin1":
        raise Malformed("The checkpoint holds bytes in a form that torch.save does not write.")
    return codecs.encode(text, "latin1")


class _LimitedBytes(io.BytesIO):
    """Bytes whose single reads are counted: the unpickler takes each instruction by one."""

    steps = 0

    def read(self, size: int | None = -1, /) -> bytes:
        if size == 1:
            self.steps += 1
            if self.steps > _MOST_STEPS:
                raise Malformed(f"its plain data has more than {_MOST_STEPS:,} parts")
        return super().read(size)


class _PlainUnpickler(pickle._Unpickler):
    """Reads plain types; any class or function is replaced by one that does nothing.

    Not the unpickler in C: ten bytes of a pickle make that one allocate as many gigabytes as they name.
    """

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("_codecs", "encode"):
            return _encoded
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        return _Inert

    def persistent_load(self, key: Any) -> Any:
        return None  # a tensor's memory


def read_snapshot(checkpoint: str | Path) -> tuple[Manifest, bytes | None]:
    """Return manifest and source of a checkpoint, ``None`` for a source that was too large to travel with it.

    Safe with any file: nothing in it can run. One of an object store is read from a copy.

    Raises:
        NoSnapshot: The checkpoint carries none.
        Malformed: It is no checkpoint, or what it carries cannot be read.
        OSError: The file cannot be read.
        ValueError: The package of an object store is not installed.
    """
    if "://" not in str(checkpoint):
        return _read(Path(checkpoint), checkpoint)
    from lightning_debugkit.checkpointing.find_checkpoints import at_hand  # late: it needs torch

    with at_hand(checkpoint) as path:
        return _read(path, checkpoint)


def _read(path: Path, checkpoint: str | Path) -> tuple[Manifest, bytes | None]:
    if path.is_dir():
        found = [path / name for name in _OF_FOLDERS if (path / name).is_file()]
        if not found:
            raise NoSnapshot(f"{path} is a folder without {' or '.join(_OF_FOLDERS)}; name a checkpoint.")
        path = found[0]
    try:
        return taken_from(_plain(path))
    except NoSnapshot as error:
        raise NoSnapshot(f"{checkpoint}: {error}") from None
    except Malformed as error:
        raise Malformed(f"{checkpoint}: {error}") from None


def _plain(path: Path) -> Any:
    try:
        if not path.exists():  # is_zipfile says no, too
            raise FileNotFoundError(f"There is no checkpoint {str(path)!r}; check the path.")
        if not zipfile.is_zipfile(path):
            return _of_old_format(path)
        with zipfile.ZipFile(path) as archive:
            named = [each for each in archive.infolist() if each.filename.rpartition("/")[2] == "data.pkl"]
            if len(named) != 1:
                raise Malformed("it is a zip file, but not one that torch.save has written")
            if named[0].file_size > _LARGEST:
                raise Malformed(f"its plain data takes {named[0].file_size:,} bytes; {_LARGEST:,} is the most we read")
            if named[0].compress_type != zipfile.ZIP_STORED:
                raise Malformed("its plain data is compressed, as torch.save never does; unzip it and zip it with -0")
            # Read no more than declared: a member may unpack to more.
            with archive.open(named[0]) as member:
                data = member.read(named[0].file_size + 1)
        return _PlainUnpickler(_LimitedBytes(data)).load()
    except (Malformed, OSError, NoSnapshot):
        raise
    except Exception as error:  # a damaged or crafted pickle may fail in any way
        raise Malformed(f"it cannot be read ({type(error).__name__}: {error})") from error


def _of_old_format(path: Path) -> Any:
    import torch  # late: reading a usual checkpoint does without

    try:
        return torch.load(path, map_location="meta", weights_only=True)
    except Exception as error:
        raise Malformed("it is no checkpoint that torch can load") from error
