"""Parameters and buffers that are broken before the first step."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from lightning_debugkit.core.finding import Finding, Where
from lightning_debugkit.core.name_lists import listed
from lightning_debugkit.core.sharding import named_shards, unwrapped_name
from lightning_debugkit.replay.nonfinite_rules import PARAMETER
from lightning_debugkit.stats.tensor_norms import is_readable, norms, values, version


def broken_weights(where: Where, module: nn.Module) -> Iterator[Finding]:
    """Yield the finding for NaN in parameters or buffers, and for infinities in parameters that train.

    A mask of infinities in a buffer is as it should be.
    """
    broken = broken_parameters(module, buffers=True)
    if broken:
        yield PARAMETER.found(
            where.at(broken[0]),
            seen="weights are not finite",
            what=f"{listed(broken)} hold NaN or infinity before training starts",
            samples_text="",
            remedy="Load a checkpoint from before it broke, or look at what was loaded: training cannot repair it.",
            parameters=broken,
        )


def _may_break(tensor: Tensor) -> bool:
    return (tensor.is_floating_point() or tensor.is_complex()) and not tensor.is_meta and is_readable(tensor)


def broken_parameters(module: nn.Module, buffers: bool = False) -> list[str]:
    """Return the parameters that hold NaN or train with infinities, and buffers with NaN if asked for; one read."""
    tensors = [*module.named_parameters(), *(module.named_buffers() if buffers else ())]
    present = [(unwrapped_name(n), t) for n, t in tensors if not is_lazy(t)]
    # Of a shard, the part that is here: a look at the whole would wait for ranks that see no cause for one.
    held = [(name, values(tensor), tensor.requires_grad) for name, tensor in present if _may_break(tensor)]
    floats = [(name, tensor, trains) for name, tensor, trains in held if tensor.numel()]
    sizes = norms([tensor for _, tensor, _ in floats])
    suspects = [each for each, sound in zip(floats, torch.isfinite(sizes).tolist(), strict=True) if not sound]
    return [n for n, t, trains in suspects if bool(torch.isnan(t).any()) or (trains and bool(torch.isinf(t).any()))]


def versions_of(module: nn.Module, names: Iterable[str] | None = None) -> dict[str, int]:
    """Return how often each parameter was written to: all of them, or those of ``names``."""
    wanted = None if names is None else set(names)
    return {name: version(p) for name, p in named_shards(module).items() if wanted is None or name in wanted}
