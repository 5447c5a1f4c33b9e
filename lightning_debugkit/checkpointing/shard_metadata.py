"""Read what a folder of shards says of itself, as ``torch.distributed.checkpoint`` writes it (``.metadata``).

PyTorch unpickles whatever that file names. Here only the classes that describe shards are looked up: nothing in the
folder can run.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch
from torch.distributed.checkpoint import metadata

META = "meta.pt"  # Lightning's file of what is no shard
METADATA = ".metadata"
_CLASSES = "torch.distributed.checkpoint.metadata"  # plain dataclasses and enumerations, of any version
_NAMED = {
    _CLASSES: {"_MEM_FORMAT_ENCODING"},
    "torch.distributed.checkpoint.filesystem": {"_StorageInfo"},
    "torch.serialization": {"_get_layout"},
    "torch": {"Size"},
    "pathlib": {"PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath"},
}


class NotWhole(ValueError):
    """The weights cannot be brought together; the message says why."""


def is_sharded_file(path: Path) -> bool:
    """Tell whether ``path`` is a folder as Lightning's sharding strategies write it."""
    return path.is_dir() and (path / META).is_file() and (path / METADATA).is_file()


class _Reader(pickle._Unpickler):
    """Reads what describes shards; anything else that is named is refused.

    Not the unpickler in C: ten bytes of a pickle make that one allocate as many gigabytes as they name.
    """

    def find_class(self, module: str, name: str) -> Any:
        found = getattr(metadata, name, None) if module == _CLASSES else None
        if isinstance(found, type) and found.__module__ == _CLASSES:
            return found
        is_dtype = module == "torch" and isinstance(getattr(torch, name, None), torch.dtype)
        if is_dtype or name in _NAMED.get(module, ()):
            return super().find_class(module, name)
        raise NotWhole(f"its {METADATA} names {module}.{name}, which describes no shard")


def read_metadata(folder: Path) -> Any:
    """Return what ``.metadata`` tells of the shards beside it, torch's ``Metadata``; nothing that it names is run.

    Raises:
        NotWhole: It is damaged, or made to do harm.
    """
    try:
        with (folder / METADATA).open("rb") as file:
            described = _Reader(file).load()
    except (NotWhole, OSError):
        raise
    except Exception as error:  # a damaged or crafted pickle may fail in any way
        raise NotWhole(f"its {METADATA} cannot be read ({type(error).__name__}: {error})") from error
    if not isinstance(described, metadata.Metadata) or not isinstance(described.storage_data, dict):
        raise NotWhole(f"its {METADATA} describes no shards")
    places = {str(place.relative_path) for place in described.storage_data.values()}
    if outside := sorted(place for place in places if Path(place).name != place):
        raise NotWhole(f"its {METADATA} leads out of the folder, to {outside[0]!r}")
    return described
