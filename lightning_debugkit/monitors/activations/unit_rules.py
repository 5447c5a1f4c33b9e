"""Judge the units of activation functions over many looks: those that died, and those that saturate."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from lightning_debugkit.core.finding import Finding, Severity, Where
from lightning_debugkit.core.name_lists import operation_name
from lightning_debugkit.core.rule import WILD_STEPS, Rule
from lightning_debugkit.monitors.activations.sites import Site
from lightning_debugkit.stats.consecutive import Consecutive

DEAD = Rule(
    "dead-units",
    Severity.WARNING,
    "{dead} of {units} units of {name} ({op}) are dead: they {gave} for all {samples_seen} samples, observed "
    "{looks} times over {steps} steps, and {get}",
    "Lower the learning rate, and check the scale of what enters {layer} and its biases. A normalisation before the "
    "activation, or LeakyReLU or GELU, keeps units alive.",
    section="activations",
    cost="sampled",
    can_follow=(*WILD_STEPS, "input-not-normalized", "output-range", "softmax-over-one", "symmetric-init"),
)
SATURATED = Rule(
    "saturated-units",
    Severity.WARNING,
    "{share:.0%} of all entries of {name} ({op}) lie where it is flat, observed {looks} times over {steps} steps "
    "from the first on: less than 1 % of the gradient passes there",
    "Standardise what enters {layer}, or lower the scale of its initial weights. A normalisation before the "
    "activation keeps it where it is steep.",
    section="activations",
    cost="sampled",
    can_follow=(*WILD_STEPS, "input-not-normalized"),
)
# What to say instead where units are stuck at one end, and of attention.
_STUCK = (
    "{share:.0%} of the units of {name} ({op}) are stuck at one end, for all samples, in {looks} looks over {steps} "
    "steps: less than 1 % of the gradient passes"
)
_STUCK_ADVICE = (
    "Lower the learning rate, and standardise what enters {layer}. A normalisation before the activation keeps it "
    "where it is steep."
)
_ONE_HOT = (
    "attention in {name} ({op}) is one-hot in {share:.0%} of the rows that have a choice, in {looks} looks over "
    "{steps} steps from the first on: less than 1 % of the gradient passes there"
)
_ONE_HOT_ADVICE = (
    "Divide the scores by the square root of the width of a head, and check the scale of queries and keys."
)
_SCALED_ADVICE = (
    "Normalise what enters {name}, as norm_first=True or a LayerNorm before it do, or make the embedding smaller: it "
    "divides its scores by the square root of the width of a head already."
)

# Where what enters a layer has much in common, a random unit lies on the flat side in every second case, by chance.
# At three quarters, half of the others have died as well.
_DEAD = 0.75
_SIGMAS = 3.0  # above that half, of a coin tossed for each unit
# At a usual start three entries in a thousand are flat.
HALF = 0.5
# A layer that is stuck: the few units left carry all that passes.
NEARLY_ALL = 0.9
_FEW = 4  # fewer units than this have no share to speak of
# Where the others were active this often, silence is no chance: exp(-10). Else the layer is sparse by design.
_EXPECTED = 10.0
_SHOWN = 10


@dataclass
class UnitCounts:
    """What one look saw of one activation function, in host memory."""

    site: Site
    name: str
    numbers: Tensor
    active: float

    @property
    def key(self) -> str:
        site = self.site
        return f"{site.place.module}|{site.layer}|{site.op}|{site.is_direct}|{len(self.flags)}"

    @property
    def flags(self) -> Tensor:
        """Of each unit: silent; of a function with two ends or an attention: whether half of all is saturated."""
        return self.numbers <= self.site.floor if self.site.kind == "floor" else torch.tensor([self.share >= HALF])

    @property
    def stuck(self) -> Tensor:
        """Of each unit: at one and the same end for nearly all entries."""
        return self.numbers.amax(dim=0) >= 0.99 * self.site.rows

    @property
    def share(self) -> float:
        """The share of silent units, of saturated entries, or of one-hot rows."""
        if self.site.kind == "rows":
            return float(self.numbers[0] / max(float(self.numbers[1]), 1.0))
        if self.site.kind == "ends":
            return float(self.numbers.sum() / (self.site.rows * self.numbers.shape[1]))
        return float(self.flags.float().mean())


class Units:
    """The memory of all activation functions, and what it says about them."""

    def __init__(self) -> None:
        self.flat: dict[str, Consecutive] = {}
        self.stuck: dict[str, Consecutive] = {}

    def judge(self, where: Where, seen: UnitCounts, fresh: bool, is_cut: bool) -> Iterator[Finding]:
        """Take up one look at one activation function; yield what it comes to.

        Args:
            seen: The look.
            fresh: The run began with the first step of its model, as far as can be told.
            is_cut: All outputs are the same for all samples.
        """
        site, where = seen.site, where.at(seen.name)
        flat = self.flat.setdefault(seen.key, Consecutive(len(seen.flags)))
        flat.add(seen.flags, where.step, site.samples, seen.active)
        if site.kind == "floor":
            yield from _dead(where, seen, flat, is_cut)
        elif site.is_inner and site.trains:
            if fresh and not site.is_gate and bool(flat.lasting() & flat.unbroken):
                yield _saturated(where, seen, flat, flat.looks)
            elif site.kind == "ends":
                stuck = self.stuck.setdefault(seen.key, Consecutive(len(seen.stuck)))
                stuck.add(seen.stuck, where.step, site.samples)
                found = stuck.lasting()
                if len(found) >= _FEW and int(found.sum()) >= NEARLY_ALL * len(found):
                    yield _saturated(where, seen, stuck, stuck.window, found)


def _dead(where: Where, seen: UnitCounts, flat: Consecutive, is_cut: bool) -> Iterator[Finding]:
    site, units, dead = seen.site, len(seen.flags), flat.lasting()
    count, window = int(dead.sum()), flat.window
    _, active = flat.within(window)
    is_whole = 0 < count == units
    by_chance = max(_DEAD * units, units / 2 + _SIGMAS * math.sqrt(units) / 2)
    each = active * units / max(units - count, 1)  # times that one of the others was active
    is_much = units >= _FEW and count >= by_chance and each >= _EXPECTED
    matters = site.is_inner or (site.is_direct and site.is_exact)
    if not site.trains or not matters or not (is_whole or is_much):
        return
    yield DEAD.found(
        where,
        severity=Severity.ERROR if is_whole and is_cut else None,
        **_evidence(seen, flat, window, where.step),
        gave="gave 0" if site.is_exact else "stayed where the function is flat",
        get="get no gradient" if site.is_exact else "get next to no gradient",
        dead=count,
        units=units,
        first_units=dead.nonzero().flatten()[:_SHOWN].tolist(),
    )


def _saturated(
    where: Where, seen: UnitCounts, consecutive: Consecutive, window: int, stuck: Tensor | None = None
) -> Finding:
    """Return what to say of a layer that is flat from the start on, or stuck at one end."""
    rule, share = SATURATED, seen.share
    evidence = _evidence(seen, consecutive, window, where.step)
    if stuck is not None:
        rule, share = replace(rule, says=_STUCK, advice=_STUCK_ADVICE), float(stuck.float().mean())
        evidence |= {"units": len(stuck), "first_units": stuck.nonzero().flatten()[:_SHOWN].tolist()}
    elif seen.site.kind == "rows":
        rule = replace(rule, says=_ONE_HOT, advice=_SCALED_ADVICE if seen.site.is_scaled else _ONE_HOT_ADVICE)
    return rule.found(where, **evidence, share=round(share, 4))


def _evidence(seen: UnitCounts, consecutive: Consecutive, window: int, step: int) -> dict[str, Any]:
    site = seen.site
    begun = list(consecutive.seen)[-window:][0][0]
    name = seen.name or "training_step"
    told = {"name": name, "layer": site.layer or name, "op": operation_name(site.op)}
    told["source"] = site.place.source
    return {**told, "looks": window, "steps": step - begun, "samples_seen": consecutive.within(window)[0]}
