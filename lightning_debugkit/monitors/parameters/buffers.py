"""Running statistics and other buffers that one batch has broken while training goes on."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torchmetrics import Metric

from lightning_debugkit.core.compat import _NormBase
from lightning_debugkit.core.finding import Finding, Severity, Where
from lightning_debugkit.core.host_copy import read
from lightning_debugkit.core.name_lists import listed
from lightning_debugkit.core.rule import Rule
from lightning_debugkit.data.batches import batch_size, tensors
from lightning_debugkit.monitors.parameters.parameter_registration import common
from lightning_debugkit.stats.tensor_norms import is_readable, values

BUFFER = Rule(
    "nonfinite-buffer",
    Severity.ERROR,
    "{names}: {held} {value} {since}, though training is finite{whose}{samples_text}",
    "{cure} or load an earlier checkpoint: {then}no later batch repairs it.",
    section="parameters",
    cost="sampled",
)

_ALONE = "; that batch has one sample, whose variance is nan"
_NOT_ALONE = "Pass drop_last=True to the DataLoader, or correction=0 (unbiased=False) to the variance, and set it anew"
_EARLY = 10  # steps that are all looked at
_LARGE = 100_000  # entries of a buffer that is no statistic, beyond which it is not looked at
_DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)  # of the others torch cannot tell all
_STRIDE = 50  # later steps are looked at this often, and at the ends of epochs


@dataclass(frozen=True)
class BufferCause:
    """What broke a buffer, as running its step again has told."""

    what: str
    remedy: str
    samples: list[int]
    evidence: Mapping[str, Any]


class Buffers:
    """Look at running statistics and small buffers, all in one read on sampled steps."""

    def __init__(self) -> None:
        self._sound: set[str] = set()
        self._last = -1  # step of the last look that found all sound
        self.told = False

    def begin(self, where: Where, module: nn.Module) -> None:
        """Take note of the statistics that are finite when training starts."""
        named = _statistics(module)
        flags = _read([tensor for _, tensor in named])
        self._sound = {name for (name, _), sound in zip(named, flags, strict=True) if sound}
        self._last = where.step

    def due(self, step: int) -> bool:
        """Tell whether the end of this step's batch is one to look at."""
        return step != self._last and (step <= _EARLY or step % _STRIDE == 0)

    def look(
        self,
        where: Where,
        module: nn.Module,
        batch: object = None,
        ask: Callable[[Sequence[str]], BufferCause | None] = lambda names: None,
    ) -> Iterator[Finding]:
        """Yield the finding for statistics that have broken since the last look, once.

        Args:
            batch: The batch of the step that is over, if it is one.
            ask: Runs that step again and tells why it broke these buffers.
        """
        if self.told or not self._sound or where.step == self._last:
            return
        named = [(name, tensor) for name, tensor in _statistics(module) if name in self._sound]
        flags = _read([tensor for _, tensor in named])
        broken = [(name, tensor) for (name, tensor), sound in zip(named, flags, strict=True) if not sound]
        before, self._last = self._last, where.step
        if not broken:
            return
        self.told = True
        names = [name for name, _ in broken]
        one = where.step - before <= 1
        since = f"since step {before}" if one else f"since a step from {before} to {where.step - 1}"
        layer = names[0].rpartition(".")[0]
        samples, whose = _largest(batch) if one else ([], "")
        value = "nan" if any(bool(torch.isnan(t).any()) for _, t in broken) else "inf"
        alone = value == "nan" and one and batch is not None and batch_size(batch) == 1 and not samples
        layers = dict(module.named_modules())
        is_norm = all(isinstance(layers.get(name.rpartition(".")[0]), _NormBase) for name in names)
        known = ask(names) if one and batch is not None and not is_norm else None
        if known is not None:
            samples = known.samples
        yield BUFFER.found(
            where.at(common(names) if len(names) > 1 else layer),
            names=listed(names),
            value=value,
            since=since,
            held="the running statistics hold" if is_norm else "the buffer holds" if len(names) == 1 else "they hold",
            whose=": one batch is enough, as each statistic is a running mean" if is_norm else "",
            samples_text=_told(known, samples, whose, alone),
            cure=f"{known.remedy.removesuffix('.')}, and set it anew"
            if known is not None
            else _NOT_ALONE
            if alone
            else _cure(layer, is_norm),
            then="in eval mode it gives nan or 0, and " * is_norm,
            buffers=names,
            samples=samples,
            **(known.evidence if known is not None else {}),
        )


def _told(known: BufferCause | None, samples: Sequence[int], whose: str, alone: bool) -> str:
    if known is not None:
        return f": {known.what}"
    return f"; of that batch, sample {samples[0]} holds {whose}" if samples else _ALONE * alone


def _cure(layer: str, is_norm: bool) -> str:
    if is_norm:
        return f"Bound what goes into {layer or 'the layer'}, and call its reset_running_stats()"
    return "Look at what writes to it, such as a division by a count of 0, and set it anew"


def _statistics(module: nn.Module) -> list[tuple[str, Tensor]]:
    found = []
    for name, part in module.named_modules():
        own = part.named_buffers(name, recurse=False)
        known = [(key, t) for key, t in own if t is not None and not nn.parameter.is_lazy(t)]
        known = [(key, t) for key, t in known if t.dtype in _DTYPES and t.numel() and is_readable(t)]
        if not isinstance(part, Metric):  # these keep extremes that begin at infinity and go back there
            found += [(k, t) for k, t in known if isinstance(part, _NormBase) or t.numel() <= _LARGE]
    return found


def _read(tensors: list[Tensor]) -> list[bool]:
    """Tell of each tensor whether it is finite, in one copy to the host."""
    return [bool(flag) for flag in read([], [torch.isfinite(values(tensor)).all() for tensor in tensors])]


def _largest(batch: object) -> tuple[list[int], str]:
    """Return the sample with the largest or a broken number, if it stands out by far, and which of them it is."""
    size = batch_size(batch) if batch is not None else None
    for tensor in tensors(batch) if size else ():
        if tensor.is_floating_point() and tensor.ndim and tensor.shape[0] == size:
            peaks = tensor.detach().reshape(tensor.shape[0], -1).abs().amax(1)
            top = float(peaks.max())
            rest = peaks[torch.isfinite(peaks)]
            if not top < 1e3 * float(rest.median() if rest.numel() else 0.0):
                whose = "the largest numbers" if math.isfinite(top) else "numbers that are not finite"
                return [int(peaks.nan_to_num(nan=torch.inf).argmax())], whose
    return [], ""
