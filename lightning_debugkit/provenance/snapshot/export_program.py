"""Leave a program of the model's forward beside its weights: it runs with no code at all."""

from __future__ import annotations

import contextlib
import inspect
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.hooks import RemovableHandle

from lightning_debugkit.core.compat import LightningModule, Trainer, move_data_to_device, tree_leaves, tree_map
from lightning_debugkit.core.isolation import isolated
from lightning_debugkit.core.patching import Hook
from lightning_debugkit.core.run import current_run
from lightning_debugkit.provenance.snapshot.run_end_commit import best_and_last
from lightning_debugkit.replay.step_replay import muted

_log = logging.getLogger("lightning_debugkit")
_FEW = 2  # a batch of one would be taken for a constant


class CannotExport(RuntimeError):
    """The model's forward cannot be exported; the message says why."""


class Example:
    """What ``forward`` is called with: the module's ``example_input_array``, else what its first call was given."""

    def __init__(self) -> None:
        self.arguments: tuple[tuple[Any, ...], dict[str, Any]] | None = None
        self._handle: RemovableHandle | None = None

    def watch(self, module: LightningModule) -> None:
        """Listen to the first call of ``forward`` if there is no example yet."""
        given = module.example_input_array
        if given is not None:
            positional = given if isinstance(given, tuple) else () if isinstance(given, dict) else (given,)
            self._keep((positional, dict(given) if isinstance(given, dict) else {}))
        elif self.arguments is None and self._handle is None:
            self._handle = module.register_forward_pre_hook(Hook(self._saw), with_kwargs=True)

    def release(self) -> None:
        """Leave the module without a hook."""
        if self._handle is not None:
            self._handle.remove()
            self._handle = None

    def _saw(self, module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if self.arguments is None and any(isinstance(leaf, Tensor) for leaf in tree_leaves((args, kwargs))):
            self._keep((args, kwargs))
        self.release()

    def _keep(self, arguments: tuple[tuple[Any, ...], dict[str, Any]]) -> None:
        # Copies: a view would keep the whole batch alive, and a step may write into its input.
        self.arguments = tree_map(_copied, arguments)


def write_programs(trainer: Trainer, module: LightningModule, example: Example) -> Iterator[dict[str, Any]]:
    """Export the forward with the weights of each file; yield what the journal keeps of it: files, or the reason."""
    checkpoints = [Path(path) for path in best_and_last(trainer)]
    try:
        refuse(trainer)
        files = [(path.with_suffix(".pt2"), program_weights(path)) for path in checkpoints]
        run = current_run(trainer)
        if not files and run is not None:
            files = [(run.folder / "code" / "model.pt2", None)]
        with muted(trainer, module):
            fixed = export(module, example, files)
    except CannotExport as error:
        _log.warning(f"CodeSnapshot(export=True) leaves no program: {error}")
        yield {"path": None, "reason": str(error)}
        return
    for path, _ in files:
        yield {"path": str(path), "bytes": path.stat().st_size, "fixed": fixed}


def export(module: LightningModule, example: Example, files: list[tuple[Path, Any]]) -> list[int]:
    """Write a `torch.export` program for each file of weights; the module is afterwards as it was before.

    Args:
        module: Module whose ``forward`` is exported, in eval mode.
        example: What it is called with; the first dimension of its tensors may have any size, if the model allows it.
        files: Where to write, and a ``state_dict`` or ``None`` for the weights of now.

    Returns:
        Sizes that the first dimension of an input must have, empty if it may have any.

    Raises:
        CannotExport: The model or its example does not allow it.
    """
    if example.arguments is None:
        raise CannotExport(
            "forward() was not called with tensors; set example_input_array in the module, or call self(x) in its steps"
        )
    with isolated(module), _quiet():
        module.eval()
        args, kwargs = move_data_to_device(example.arguments, module.device)
        with torch.no_grad():
            program = _program(module, args, kwargs)
        for path, weights in files:
            if weights is not None:
                _load(module, weights)  # the program refers to the module's own tensors
            _write(program, path)
    return _fixed(program)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep what torch logs of its tracing, which nobody can act on, from the console."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


def program_weights(path: Path) -> Any:
    """Return the ``state_dict`` of a checkpoint file.

    Raises:
        CannotExport: It cannot be read as plain weights.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=True)["state_dict"]
    except Exception:
        try:
            # Written by this very run, which has the classes at hand.
            return torch.load(path, map_location="cpu", weights_only=False)["state_dict"]
        except Exception as error:
            raise CannotExport(f"{path.name} cannot be read ({type(error).__name__}: {error})") from error


def refuse(trainer: Trainer) -> None:
    """Raise where no process holds the whole model; raises `CannotExport` where the strategy shards the parameters."""
    name = type(trainer.strategy).__name__
    if any(word in name for word in ("FSDP", "DeepSpeed", "ModelParallel")):
        raise CannotExport(f"{name} shards the parameters; load the checkpoint in one process and export it there")


def _load(module: LightningModule, weights: Any) -> None:
    try:
        module.load_state_dict(weights, strict=module.strict_loading)
    except RuntimeError as error:
        raise CannotExport(f"the module does not take the checkpoint's weights ({_first_line(error)})") from error


def _program(module: LightningModule, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Trace with few rows, which is cheap, or else with the example as it is; with any batch size, or else with its."""
    few, whole = _few(args, kwargs), (args, kwargs)
    for example, takes_any_batch in ((few, True), (whole, True), (few, False), (whole, False)):
        try:
            shapes = _shapes(module, *example) if takes_any_batch else None
            return torch.export.export(module, *example, dynamic_shapes=shapes)
        except Exception as error:
            failed = error
    said = f"{type(failed).__name__}: {_first_line(failed)}"
    raise CannotExport(f"torch.export cannot trace forward() ({said})") from failed


def _shapes(module: LightningModule, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    batch = _batch(args, kwargs)
    # By their names in the signature: so torch.export takes shapes of keyword arguments, too.
    arguments = inspect.signature(module.forward).bind(*args, **kwargs).arguments
    return {
        name: tree_map(lambda leaf: {0: torch.export.Dim.AUTO} if _has_rows(leaf, batch) else None, value)
        for name, value in arguments.items()
    }


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), "")[:300]


def _fixed(program: Any) -> list[int]:
    inputs = set(program.graph_signature.user_inputs)
    values = [node.meta.get("val") for node in program.graph.nodes if node.op == "placeholder" and node.name in inputs]
    sizes = [value.shape[0] for value in values if isinstance(value, Tensor) and value.ndim]
    # A size that may vary has the name of a symbol; one that tracing has fixed may still be of that type.
    return sorted({int(str(size)) for size in sizes if str(size).isdigit()})


def _write(program: Any, path: Path) -> None:
    draft = path.with_name(f".{path.stem}.{os.getpid()}.pt2")
    try:
        torch.export.save(program, draft)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def _few(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return two rows of each tensor that has those of the batch."""
    batch = _batch(args, kwargs)

    def cut(leaf: Any) -> Any:
        if not _has_rows(leaf, batch):
            return leaf
        return leaf[:_FEW] if batch >= _FEW else torch.cat([leaf, leaf])

    found: tuple[tuple[Any, ...], dict[str, Any]] = tree_map(cut, (args, kwargs))
    return found


def _batch(args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
    """Return the rows of the first tensor: a mask or a state beside it may have other ones."""
    return next((len(leaf) for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor) and leaf.ndim), 0)


def _has_rows(leaf: Any, batch: int) -> bool:
    return isinstance(leaf, Tensor) and leaf.ndim > 0 and len(leaf) == batch > 0


def _copied(leaf: Any) -> Any:
    return leaf.detach().to("cpu", copy=True) if isinstance(leaf, Tensor) else leaf
