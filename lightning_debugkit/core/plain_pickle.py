"""Read the plain data of a checkpoint that anybody may have written: nothing it names is looked up or called."""

from __future__ import annotations

import codecs
import io
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

_LARGEST = 512_000_000  # bytes of pickled plain data: weights lie outside of it
# Instructions of a pickle, each of which may take some seventy bytes of memory; a tensor takes about thirty.
_MOST_STEPS = 20_000_000


class NotPlain(ValueError):
    """What a file holds cannot be read as plain data; the message says why."""


class _Inert:
    """Stands for whatever a checkpoint names: it takes everything and does nothing."""

    def __init__(self, *args: Any, **kwargs: Any) -> None: ...

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self

    def __setstate__(self, state: Any) -> None: ...

    def __setitem__(self, key: Any, value: Any) -> None: ...

    def append(self, item: Any) -> None: ...

    def extend(self, items: Any) -> None: ...

    def add(self, item: Any) -> None: ...


def _encoded(text: Any, encoding: Any = "latin1") -> bytes:
    """Undo how pickle's protocol 2 writes bytes."""
    if not isinstance(text, str) or encoding != "latin1":
        raise NotPlain("The checkpoint holds bytes in a form that torch.save does not write.")
    return codecs.encode(text, "latin1")


class _LimitedBytes(io.BytesIO):
    """Bytes whose single reads are counted: the unpickler takes each instruction by one."""

    steps = 0

    def read(self, size: int | None = -1, /) -> bytes:
        if size == 1:
            self.steps += 1
            if self.steps > _MOST_STEPS:
                raise NotPlain(f"its plain data has more than {_MOST_STEPS:,} parts")
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


def plain_data(path: Path) -> Any:
    """Return what a zip file of ``torch.save`` holds, without its tensors; objects of classes are inert.

    Raises:
        NotPlain: The file is none, is too large, or is made to do harm.
        OSError: It cannot be read.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            named = [each for each in archive.infolist() if each.filename.rpartition("/")[2] == "data.pkl"]
            if len(named) != 1:
                raise NotPlain("it is a zip file, but not one that torch.save has written")
            if named[0].file_size > _LARGEST:
                raise NotPlain(f"its plain data takes {named[0].file_size:,} bytes; {_LARGEST:,} is the most we read")
            if named[0].compress_type != zipfile.ZIP_STORED:
                raise NotPlain("its plain data is compressed, as torch.save never does; unzip it and zip it with -0")
            # Read no more than declared: a member may unpack to more.
            with archive.open(named[0]) as member:
                data = member.read(named[0].file_size + 1)
        return _PlainUnpickler(_LimitedBytes(data)).load()
    except (NotPlain, OSError):
        raise
    except Exception as error:  # a damaged or crafted pickle may fail in any way
        raise NotPlain(f"it cannot be read ({type(error).__name__}: {error})") from error
