"""Which part of the model a process holds, and what must be summed over all of them to speak of the whole."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from lightning_debugkit.core.compat import (
    WRAPPERS,
    DDPStrategy,
    DeepSpeedStrategy,
    FSDPStrategy,
    ModelParallelStrategy,
    SingleDeviceStrategy,
    Trainer,
    both_packages,
    flat_parameters,
    is_flattened,
)
from lightning_debugkit.stats.tensor_norms import norms, values


def holds_whole_model(trainer: Trainer | None) -> bool:
    """Tell whether each process holds the whole model, so that it can run a step without the others."""
    strategy = getattr(trainer, "strategy", None)
    return strategy is None or _holds_whole(type(strategy))  # type: ignore[arg-type]  # a class can be hashed


@lru_cache(maxsize=64)  # each step asks
def _holds_whole(strategy: Hashable) -> bool:
    # DeepSpeed's is a kind of DDPStrategy by inheritance only.
    assert isinstance(strategy, type)
    whole = issubclass(strategy, both_packages(SingleDeviceStrategy, DDPStrategy))
    return whole and not issubclass(strategy, both_packages(DeepSpeedStrategy))


def is_sharded(trainer: Trainer) -> bool:
    """Tell whether gradients lie in shards where the parameters are, so that their norms can be summed."""
    return _shards(type(trainer.strategy))


@lru_cache(maxsize=64)  # each step asks
def _shards(strategy: Hashable) -> bool:
    assert isinstance(strategy, type)
    return issubclass(strategy, both_packages(FSDPStrategy, ModelParallelStrategy))


def samples_of(trainer: Trainer) -> tuple[int, int]:
    """Return the share of the samples that this rank gets, and how many shares there are.

    The ranks of one tensor-parallel group share one: they work on the same batch together.
    """
    if trainer.world_size > 1 and isinstance(trainer.strategy, both_packages(ModelParallelStrategy)):
        dealt = trainer.strategy.distributed_sampler_kwargs
        return int(dealt["rank"]), int(dealt["num_replicas"])
    return trainer.global_rank, trainer.world_size


def cannot_rerun(trainer: Trainer | None) -> str:
    """Return why this process cannot run a batch once more by itself, empty if it can."""
    if holds_whole_model(trainer):
        return ""
    assert trainer is not None
    return f"{type(trainer.strategy).__name__} gives each process a part of the model, which runs no step by itself"


def unseen_shards(trainer: Trainer, wiring: bool) -> str:
    """Return in a sentence what cannot be said of the gradients, empty if all can."""
    reason = cannot_rerun(trainer)
    if not reason:
        return ""
    if not is_sharded(trainer):
        return f"{reason}; where it keeps the gradients is not known, so that only loss and schedule are watched"
    left_out = ", nor unregistered-parameter, zero-gradient and replicas-differ looked for" if wiring else ""
    return f"{reason}; norms are summed over all of them, but a broken step is not replayed{left_out}"


@lru_cache(maxsize=1 << 16)  # each step asks for all of them
def unwrapped_name(name: str) -> str:
    """Return the path of a parameter or module as the user knows it, without what FSDP has put around modules.

    >>> unwrapped_name("net.0._fsdp_wrapped_module.weight")
    'net.0.weight'
    """
    return ".".join(part for part in name.split(".") if part not in WRAPPERS)


def outer(name: str) -> str:
    """Return the path of what a module stands in; what FSDP has put around it is a part of it.

    >>> outer("net.1._fsdp_wrapped_module"), outer("net.1")
    ('net', 'net')
    """
    parts = name.split(".")
    while parts[-1] in WRAPPERS:
        parts.pop()
    return ".".join(parts[:-1])


def named_shards(module: nn.Module) -> dict[str, nn.Parameter]:
    """Return all parameters by the path that the user knows."""
    return {unwrapped_name(name): parameter for name, parameter in module.named_parameters()}


def gathered_shards(value: Any) -> Any:
    """Return a DTensor as the whole tensor that it stands for, anything else as it is.

    Where it is cut, this is a collective of the ranks that hold it.
    """
    if not hasattr(value, "full_tensor"):
        return value
    return value.to_local() if all(placed.is_replicate() for placed in value.placements) else value.full_tensor()


def parameter_sizes(trainer: Trainer, module: nn.Module) -> list[tuple[nn.Parameter, int]]:
    """Return all parameters, each with the number of entries that all processes together hold of it."""
    shapes = _flat_of(trainer).shapes if is_sharded(trainer) else {}
    held = [p for p in module.parameters() if not nn.parameter.is_lazy(p)]
    return [(p, math.prod(shapes.get(id(p), p.shape))) for p in held]


class Sums:
    """The norms of whole gradients and weights, from the parts that all processes hold.

    One call is one collective: every rank must make it at the same place.

    Args:
        parameters: Of one optimizer, in its order, equal on all ranks.
    """

    def __init__(self, trainer: Trainer, parameters: Sequence[Tensor]) -> None:
        self.device = trainer.strategy.root_device
        self.world = trainer.world_size
        self.parameters = list(parameters)
        flat = _flat_of(trainer)
        self.dims = [len(flat.shapes.get(id(p), p.shape)) for p in self.parameters]
        self._copies = [_copies(p, trainer.world_size, flat) for p in self.parameters]
        self.weights: list[float] = []  # as last summed

    def __call__(self, alarm: bool, with_weights: bool) -> tuple[bool, list[float | None]]:
        """Return whether any rank is alarmed, and the norm of each gradient, ``None`` where no rank has one."""
        total = self._summed(alarm, with_weights, wide=False)
        if not bool(torch.isfinite(total).all()):
            # All ranks see the same and come along: squares may have overflowed 32 bits where nothing is broken.
            total = self._summed(alarm, with_weights, wide=True)
        count = len(self.parameters)
        found = total.tolist()
        present, squares = found[1 : 1 + count], found[1 + count : 1 + 2 * count]
        if with_weights:
            self.weights = [square**0.5 for square in found[1 + 2 * count :]]
        return found[0] > 0, [
            square**0.5 if there > 0 else None for there, square in zip(present, squares, strict=True)
        ]

    def _summed(self, alarm: bool, with_weights: bool, wide: bool) -> Tensor:
        gradients = [p.grad for p in self.parameters]
        flags = [float(alarm), *(float(grad is not None) for grad in gradients)]
        parts = [torch.tensor(flags, dtype=torch.float64, device=self.device), self._squares(gradients, wide)]
        if with_weights:
            parts.append(self._squares(self.parameters, wide))
        total = torch.cat(parts)
        if torch.distributed.is_initialized():
            torch.distributed.all_reduce(total)
        return total

    def _squares(self, tensors: Sequence[Tensor | None], wide: bool) -> Tensor:
        squares = torch.zeros(len(tensors), dtype=torch.float64, device=self.device)
        held, copies = [], []
        for tensor, among in zip(tensors, self._copies, strict=True):
            if tensor is not None:
                is_partial = any(placed.is_partial() for placed in getattr(tensor, "placements", ()))
                # What is still to be added up, all ranks have in that form, and all add it up here.
                held.append(values(tensor.full_tensor() if is_partial else tensor))  # type: ignore[attr-defined]  # a DTensor
                copies.append(self.world if is_partial else among)
        if held:
            there = [index for index, tensor in enumerate(tensors) if tensor is not None]
            sizes = norms([tensor.double() for tensor in held] if wide else held).to(self.device, torch.float64)
            squares[there] = sizes.square() / torch.tensor(copies, dtype=torch.float64, device=self.device)
        return squares


class _Flat:
    """What the first FSDP keeps of parameters that it has flattened and cut."""

    def __init__(self, copies: int = 1) -> None:
        self.copies = copies
        self.shapes: dict[int, Sequence[int]] = {}  # of the whole parameters, by ``id``


def _flat_of(trainer: Trainer) -> _Flat:
    from torch.distributed.fsdp import FullyShardedDataParallel, ShardingStrategy

    model = trainer.strategy.model
    wrapped = [] if model is None else FullyShardedDataParallel.fsdp_modules(model)
    if not wrapped:
        return _Flat()
    first: Any = wrapped[0]
    whole = first.sharding_strategy == ShardingStrategy.NO_SHARD
    flat = _Flat(trainer.world_size if whole else trainer.world_size // first.process_group.size())
    for part in wrapped:
        for parameter, shape in flat_parameters(part):
            flat.shapes[id(parameter)] = shape
    return flat


def _copies(parameter: Tensor, world: int, flat: _Flat) -> int:
    """Return how many ranks hold each entry of a parameter."""
    if hasattr(parameter, "placements"):
        mesh: Any = parameter.device_mesh  # type: ignore[attr-defined]  # of a DTensor
        spread = [int(mesh.size(at)) for at, placed in enumerate(parameter.placements) if not placed.is_replicate()]
        return world // math.prod(spread)
    return flat.copies if is_flattened(parameter) else world
