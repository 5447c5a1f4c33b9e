"""Parameters and buffers that are broken before the first step."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from lightning_debugkit.callbacks.anomaly.membership import listed
from lightning_debugkit.callbacks.anomaly.nonfinite import PARAMETER
from lightning_debugkit.finding import Finding, Where
from lightning_debugkit.stats.tensors import norms


def sound_weights(where: Where, module: nn.Module) -> Iterator[Finding]:
    """Yield the finding for NaN in parameters or buffers, and for infinities in parameters that train.

    A mask of infinities in a buffer is as it should be.
    """
    named = [(n, t) for n, t in (*module.named_parameters(), *module.named_buffers()) if not is_lazy(t)]
    floats = [(name, tensor) for name, tensor in named if tensor.is_floating_point() and tensor.numel()]
    sizes = norms([tensor for _, tensor in floats])
    suspects = [pair for pair, sound in zip(floats, torch.isfinite(sizes).tolist(), strict=True) if not sound]
    broken = [n for n, t in suspects if bool(torch.isnan(t).any()) or (t.requires_grad and bool(torch.isinf(t).any()))]
    if broken:
        yield PARAMETER.found(
            where.at(broken[0]),
            seen="weights are not finite",
            what=f"{listed(broken)} hold NaN or infinity before training starts",
            samples_text="",
            remedy="Load a checkpoint of before it broke, or look at what was loaded: training cannot mend it.",
            parameters=broken,
        )
