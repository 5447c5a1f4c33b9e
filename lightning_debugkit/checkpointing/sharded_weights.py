"""Bring the weights of a sharded checkpoint together, so that they load as those of one file do."""

from __future__ import annotations

import contextlib
import inspect
import math
import tempfile
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lightning_debugkit.checkpointing.shard_metadata import META, NotWhole, read_metadata
from lightning_debugkit.core.compat import LightningModule

_PREFIXES = ("state_dict.", "model.")  # of ModelParallelStrategy, and of FSDPStrategy


@contextlib.contextmanager
def sharded_into_one_file(path: Path, weights_only: bool) -> Iterator[Path]:
    """Give a checkpoint that lies in one file, of a sharded one for the time of the context.

    Args:
        path: A checkpoint file, or the folder of a sharded checkpoint.
        weights_only: Unpickle plain data only, as `torch.load`.

    Raises:
        NotWhole: The folder is damaged, or made to do harm.
    """
    if not path.is_dir():
        yield path
        return
    checkpoint = torch.load(path / META, map_location="cpu", weights_only=weights_only)
    with tempfile.TemporaryDirectory(prefix="lightning-debugkit-") as folder:
        whole = Path(folder) / path.name
        torch.save({**checkpoint, "state_dict": weights_of_shards(path)}, whole)
        del checkpoint
        yield whole


def load_sharded(model_class: type[LightningModule], path: Path, weights_only: bool, **options: Any) -> LightningModule:
    """Return the model of a checkpoint, sharded or not, as ``load_from_checkpoint`` does.

    A ``configure_model`` that deals layers out to processes may ask for a device mesh, and one process has none. Where
    it fails, the model is loaded without it: the weights must fit all the same.

    Raises:
        NotWhole: The folder is damaged, or made to do harm; or the model cannot be built in one process.
    """
    if "weights_only" in inspect.signature(model_class.load_from_checkpoint).parameters:
        options["weights_only"] = weights_only
    with sharded_into_one_file(path, weights_only) as file:
        try:
            return model_class.load_from_checkpoint(file, **options)
        except Exception as error:
            if not _is_in_configure_model(error):
                raise
            cause = error
        own = vars(model_class).get("configure_model")
        model_class.configure_model = LightningModule.configure_model  # type: ignore[method-assign]  # until below
        try:
            return model_class.load_from_checkpoint(file, **{**options, "strict": True})
        except Exception as error:
            raise NotWhole(
                f"configure_model cannot run in one process ({type(cause).__name__}: {cause}); let it leave the layers "
                'whole where self.device_mesh is None, and load with code="current"'
            ) from error
        finally:
            if own is None:
                del model_class.configure_model
            else:
                setattr(model_class, "configure_model", own)  # noqa: B010 - mypy takes a method for final


def _is_in_configure_model(error: Exception) -> bool:
    return any(frame.f_code.co_name == "configure_model" for frame, _ in traceback.walk_tb(error.__traceback__))


def weights_of_shards(folder: Path) -> dict[str, Tensor]:
    """Return the whole weights of a sharded checkpoint.

    Raises:
        NotWhole: The folder is damaged, or made to do harm.
    """
    from torch.distributed.checkpoint.api import CheckpointException
    from torch.distributed.checkpoint.default_planner import DefaultLoadPlanner
    from torch.distributed.checkpoint.filesystem import FileSystemReader
    from torch.distributed.checkpoint.metadata import TensorStorageMetadata
    from torch.distributed.checkpoint.state_dict_loader import _load_state_dict

    metadata = read_metadata(folder)

    class Reader(FileSystemReader):
        def read_metadata(self, *args: Any, **kwargs: Any) -> Any:
            return metadata  # not unpickled anew

    wanted = {name: held for name, held in metadata.state_dict_metadata.items() if name.startswith(_PREFIXES)}
    objects = [name for name, held in wanted.items() if not isinstance(held, TensorStorageMetadata)]
    if objects:
        raise NotWhole(f"{objects[0]} is no tensor, but an object that only the program of then may unpickle")
    sizes = sum(math.prod(held.size) * held.properties.dtype.itemsize for held in wanted.values())
    there = sum(file.stat().st_size for file in folder.iterdir() if file.is_file())
    if sizes > there:
        raise NotWhole(f"its weights should take {sizes:,} bytes, and its files have {there:,}")
    state: dict[str, Any] = {
        name: torch.empty(tuple(held.size), dtype=held.properties.dtype) for name, held in wanted.items()
    }
    try:
        _load_state_dict(state, storage_reader=Reader(folder), planner=DefaultLoadPlanner(), no_dist=True)
    except CheckpointException as error:  # no Exception: nobody else would catch it
        met = next((each for each, _ in error.failures.values()), error)
        raise NotWhole(f"its shards cannot be read ({type(met).__name__}: {met})") from error
    return {name.partition(".")[2]: tensor for name, tensor in state.items()}
