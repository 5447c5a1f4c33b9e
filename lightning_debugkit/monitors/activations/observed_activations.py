"""One look, read to the host: what a step's activations came to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lightning_debugkit.core.compat import LightningModule, TorchDispatchMode, is_compiled, is_compiled_as_a_whole
from lightning_debugkit.core.name_lists import operation_name
from lightning_debugkit.core.sharding import unwrapped_name
from lightning_debugkit.monitors.activations.output_rules import TOLERANCE, Variation, relative
from lightning_debugkit.monitors.activations.recording import ActivationRecording
from lightning_debugkit.monitors.activations.sites import Output, Site, is_bare
from lightning_debugkit.monitors.activations.unit_rules import UnitCounts
from lightning_debugkit.stats.activation_stats import to_host


@dataclass
class ObservedActivations:
    """What one step's activations came to, in host memory."""

    layers: dict[str, float]  # root mean square of each layer's output, in the order of first execution
    norms: dict[str, float]  # the same of each normalisation's input
    seen: list[UnitCounts]
    outputs: list[Variation]  # what reached the loss; nothing if the samples of the batch do not differ
    unseen: dict[str, str]  # what could not be seen, and why

    def measures(self) -> dict[str, dict[str, float]]:
        """Return what the report draws, by the name of its measure."""
        shares: dict[str, dict[str, float]] = {"inactive-units": {}, "saturated-entries": {}}
        for seen in self.seen:
            kind = "inactive-units" if seen.site.kind == "floor" else "saturated-entries"
            label = f"{seen.name or 'training_step'} ({operation_name(seen.site.op)})"
            shares[kind][label] = round(max(seen.share, shares[kind].get(label, 0.0)), 4)
        return {"activation-scale": self.layers, "norm-input-scale": self.norms, **shares}


def cannot_look(module: LightningModule) -> str | None:
    """Return why the step of ``module`` cannot be watched, ``None`` if it can."""
    if hasattr(TorchDispatchMode, "ignore_compile_internals"):
        return None
    # An older torch would run compiled parts eagerly under a mode, with other roundings.
    if any(map(is_compiled, module.modules())) or is_compiled_as_a_whole(module):
        return f"parts are compiled by torch.compile, and torch {torch.__version__} cannot look beside them"
    return None


def read_activations(gathered: ActivationRecording, module: nn.Module) -> ObservedActivations:
    """Bring the numbers of one look to the host, in one transfer for each device."""
    sites = [site for site in gathered.sites.values() if site.numbers is not None]
    outputs = [output for output in gathered.outputs if output.numbers is not None]
    parts = {unwrapped_name(name): part for name, part in module.named_modules()}
    names = _named(sites, parts)
    scales = {("layer", name): scale.rms for name, scale in gathered.layers.items()}
    scales |= {("norm", name): scale.rms for name, scale in gathered.norms.items()}
    held = [(*_numbers(site.numbers, site.active),) for site in sites]
    ends = [(*_numbers(output.numbers, output.wanted),) for output in outputs]
    asked = [*scales.values(), *(t for group in (*held, *ends) for t in group), *gathered.differing]
    found = iter(to_host(asked))

    sizes = {key: float(next(found)) for key in scales}
    seen = [_seen(site, names[site], [next(found) for _ in group]) for site, group in zip(sites, held, strict=True)]
    ended = [
        _variation(output, parts, [next(found) for _ in group]) for output, group in zip(outputs, ends, strict=True)
    ]
    differs = not gathered.differing or any(bool(next(found)) for _ in gathered.differing)
    return ObservedActivations(
        {name: size for (kind, name), size in sizes.items() if kind == "layer"},
        {name: size for (kind, name), size in sizes.items() if kind == "norm"},
        seen,
        ended if differs else [],
        dict(gathered.unseen),
    )


def _numbers(*tensors: Tensor | None) -> list[Tensor]:
    return [tensor for tensor in tensors if tensor is not None]


def _seen(site: Site, name: str, found: list[Tensor]) -> UnitCounts:
    return UnitCounts(site, name, found[0], float(found[1]) if site.active is not None else 0.0)


def _variation(output: Output, parts: Mapping[str, nn.Module], found: list[Tensor]) -> Variation:
    wanted = float(found[1]) if output.wanted is not None else None
    spreads = [relative(stage, wanted) for stage in found[0]]
    lost = next((index for index, spread in enumerate(spreads) if spread <= TOLERANCE), 0)
    place = output.stages[lost].place
    path = place.module if place is not None else None
    name = path if path and is_bare(parts.get(path)) else output.layer
    return Variation(output.layer, name, output.stages[lost].op, spreads[-1], output.rows)


def _named(sites: Iterable[Site], parts: Mapping[str, nn.Module]) -> dict[Site, str]:
    """Return the module to name for each activation function.

    That is the module that is nothing else, if it serves one layer; else the layer whose units it acts on.
    """
    sites = list(sites)
    served = Counter(path for path, _ in {(site.place.module, site.layer) for site in sites})
    names = {}
    for site in sites:
        path = site.place.module or ""
        is_own = is_bare(parts.get(path)) and served[site.place.module] == 1
        names[site] = path if is_own or site.kind == "rows" else site.layer or path
    return names
