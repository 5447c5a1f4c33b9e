"""Ranks whose weights drift apart, though data-parallel training keeps them equal to the bit."""

from __future__ import annotations

import torch
from torch import nn

from lightning_debugkit.core.finding import Finding, Severity, Where
from lightning_debugkit.core.name_lists import listed
from lightning_debugkit.core.rule import Rule
from lightning_debugkit.monitors.parameters.parameter_registration import common
from lightning_debugkit.stats.tensor_norms import bits, is_readable

DIFFER = Rule(
    "replicas-differ",
    Severity.ERROR,
    "the weights of {names} differ between ranks {ranks}: the replicas drift apart",
    "What changes weights or gradients must run on every rank: look for is_global_zero, rank_zero_only or "
    "unsynchronised "
    "random numbers around clipping, initialisation and optimizer steps.",
    section="parameters",
    cost="sampled",
)


def compare_replicas(where: Where, module: nn.Module, world_size: int) -> Finding | None:
    """Gather the bits of all parameters from all ranks and return the finding if they differ.

    Every rank must call this at the same place: it communicates.
    """
    held = {name: p for name, p in module.named_parameters() if is_readable(p)}
    names = list(held)
    own = torch.tensor([bits(p) for p in held.values()], dtype=torch.int64)
    gathered: list[list[int]] = [[] for _ in range(world_size)]
    torch.distributed.all_gather_object(gathered, own.tolist())
    apart = [name for index, name in enumerate(names) if len({row[index] for row in gathered}) > 1]
    if not apart:
        return None
    ranks = [rank for rank, row in enumerate(gathered) if row != gathered[0]]
    return DIFFER.found(
        where.at(common(apart)), names=listed(apart), ranks=f"0 and {', '.join(map(str, ranks))}", parameters=apart
    )
