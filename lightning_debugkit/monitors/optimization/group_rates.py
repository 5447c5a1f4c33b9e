"""A group of parameters whose learning rate is so small that its steps are rounded away, while another group learns."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import torch

from lightning_debugkit.core.finding import Finding
from lightning_debugkit.core.name_lists import listed
from lightning_debugkit.monitors.observed_step import StepStats
from lightning_debugkit.monitors.optimization.crawling_weights import RATIO_LOW
from lightning_debugkit.monitors.optimization.update_ratio import UpdateRatio
from lightning_debugkit.monitors.parameters.parameter_registration import common

STEPS = (10, 100)  # after which it is asked; a rate may still rise at the first
BESIDE = 1e-3  # of the highest rate of the optimizer, below which a group's own is to blame (a choice)

_LEFT_BEHIND = (
    "a step moves {names} by {ratio:.1e} of their size, below the {resolved:.1e} that their numbers resolve, while "
    "other parameters have a learning rate of {highest:.1e}"
)


def judge(watch: UpdateRatio, look: StepStats) -> Iterator[Finding]:
    """Yield each group of parameters that stays where it is by its rate alone."""
    key = id(look.optimizer)
    if (steps := watch.steps.get(key, 0)) not in STEPS:
        return
    each = list(zip(look.names, look.parameters, look.dims, look.held.groups, strict=True))
    for group, rate in enumerate(look.group_rates):
        if group in watch.rising.get(key, ()) or not 0 < rate < BESIDE * look.highest_rate:
            continue
        held = {name: p for name, p, dims, of in each if of == group and dims > 1 and name in watch.starts}
        ratio = max((watch.way(name, p) / steps for name, p in held.items()), default=math.inf)
        resolved = min((torch.finfo(p.dtype).eps / 2 for p in held.values()), default=0.0)
        if ratio < resolved:
            yield replace(RATIO_LOW, says=_LEFT_BEHIND).found(
                look.where.at(common(held)), names=listed(list(held)), ratio=ratio, resolved=resolved,
                highest=look.highest_rate, rate=rate,
            )  # fmt: skip
