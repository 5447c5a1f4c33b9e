"""An input that layers read and learn nothing from: what they make of it is dropped on the way to the loss."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from lightning_debugkit.core.finding import Finding, Where
from lightning_debugkit.core.name_lists import listed
from lightning_debugkit.core.patching import Hearing
from lightning_debugkit.data.batches import indexed
from lightning_debugkit.preflight.loss_calls import LossCall
from lightning_debugkit.preflight.probe import Probe, changed, inputs_of
from lightning_debugkit.preflight.unused_input import UNUSED_INPUT

INPUTS = 4  # of a batch that are tried, a pass each
STEPS = 10  # after which a layer that is used now and then, as by every other step, has moved
DROPPED = (
    "{path} is read by {names}, and what they make of it is dropped: with that of other samples no prediction changes, "
    "and none of their weights has moved in {steps} steps"
)
USED = "Use what {names} return in forward: look for a name that is set anew, or for a cat or a sum that leaves it out."


@dataclass(frozen=True)
class Dropped:
    """An input on which no prediction of the first step depends, though layers read it."""

    path: str
    # sums of the trainable weights of each layer that read it before the first step, by its name
    starts: Mapping[str, tuple[float, ...]]


def dropped_inputs(probe: Probe, base: Sequence[LossCall]) -> list[Dropped]:
    """Return the inputs that do not reach a loss, of those beside which there are others; all layers must train."""
    inputs = [(path, leaf) for path, leaf in inputs_of(probe.batch, [*base]) if len(leaf) == probe.size]
    if not 1 < len(inputs) <= INPUTS:
        return []
    before, _ = _heard(probe, probe.batch)
    found = []
    for path, leaf in inputs:
        if torch.equal(leaf, leaf.roll(1, 0)):
            continue
        after, calls = _heard(probe, changed(probe.batch, {path: leaf.roll(1, 0)}))
        names = [name for name, value in after.items() if before.get(name) != value]
        if names and len(calls) == len(base) and all(map(_is_same, base, calls)):
            found.append(Dropped(path, {name: _sums(probe.step.module.get_submodule(name)) for name in names}))
    return found


def judge_dropped(dropped: Sequence[Dropped], module: nn.Module, steps: int, where: Where) -> Iterator[Finding]:
    """Yield, at the end of a fit of so many steps, each input whose layers have not moved."""
    rule = replace(UNUSED_INPUT, says=DROPPED, advice=USED)
    parts = dict(module.named_modules())
    for one in dropped if steps >= STEPS else ():
        if all(name in parts and _sums(parts[name]) == sums for name, sums in one.starts.items()):
            names = [*one.starts]
            at = where.at(names[0] if len(names) == 1 else "")
            yield rule.found(at, path=indexed(one.path), names=listed(names), steps=steps, layers=names)


def _heard(probe: Probe, batch: Any) -> tuple[dict[str, float], list[LossCall]]:
    """Return a number of what each layer with weights to train returns, by its name, and the losses."""
    heard: dict[str, float] = {}
    names = {id(part): name for name, part in probe.step.module.named_modules() if name and _weights(part)}

    def hear(part: nn.Module, args: Any, output: Any) -> None:
        first = output[0] if isinstance(output, tuple) and output else output
        if isinstance(first, Tensor) and type(first) is Tensor and first.layout is torch.strided:
            values = first.detach().reshape(-1).double()
            weighed = float(values @ torch.linspace(1, 2, len(values), dtype=values.dtype, device=values.device))
            heard[names[id(part)]] = heard.get(names[id(part)], 0.0) + weighed

    with Hearing([part for part in probe.step.module.modules() if id(part) in names], hear):
        return heard, probe.calls(batch)


def _weights(part: nn.Module) -> list[nn.Parameter]:
    return [p for p in part.parameters(recurse=False) if p.requires_grad and not nn.parameter.is_lazy(p)]


def _sums(part: nn.Module) -> tuple[float, ...]:
    return tuple(float(value) for p in _weights(part) for value in (p.detach().double().sum(), p.detach().norm()))


def _is_same(one: LossCall, other: LossCall) -> bool:
    return torch.equal(one.prediction, other.prediction) and torch.equal(one.target, other.target)
