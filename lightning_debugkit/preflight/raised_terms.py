"""A classification term that enters the loss with a minus, and by which alone a layer of the optimizer is trained."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.overrides import TorchFunctionMode

from lightning_debugkit.core.finding import Finding, Where
from lightning_debugkit.core.loss_functions import BINARY_LOSSES, INDEX_LOSSES
from lightning_debugkit.preflight.calling_frame import calling_frame
from lightning_debugkit.preflight.loss_calls import LossCall
from lightning_debugkit.preflight.loss_value import NEGATIVE_LOSS
from lightning_debugkit.preflight.probe import Probe
from lightning_debugkit.replay.source_lines import SourceLine, place_of

TERMS = INDEX_LOSSES | BINARY_LOSSES
ALIKE = 1e-3  # relative, of two gradients that are the same but for rounding
_FAULT = (
    "enters the loss with the factor {factor:.3g}: training makes the labels unlikely without bound, and {layer} "
    "learns by nothing else"
)
_REMEDY = "Add the term with a plus. The layers of an adversary belong to an optimizer of their own."


def judge_raised(
    probe: Probe, base: Sequence[LossCall], optimizers: Sequence[Optimizer], where: Where
) -> Iterator[Finding]:
    """Yield each classification term that the optimizer raises, with a layer that it trains by this term alone.

    An adversary's layers have an optimizer of their own, and what is unlearned shares its layers with what is kept. Of
    choices that are drawn in the step, or if each half of the batch has another factor, it is a reward.
    """
    size = probe.size
    if len(optimizers) != 1 or size is None or size < 2 or not any(call.function in TERMS for call in base):
        return
    trained = [p for group in optimizers[0].param_groups for p in group["params"] if p.requires_grad]
    terms = _terms(probe, probe.batch, trained)
    if not any(term.alone for term in terms) or probe.draws:
        return
    halves = [_terms(probe, probe.reordered(rows), ()) for rows in _halves(size)]
    names = {id(parameter): name for name, parameter in probe.step.module.named_parameters()}
    for term, *others in zip(terms, *halves, strict=False):
        if term.alone and all(math.isclose(term.factor, other.factor, rel_tol=ALIKE) for other in others):
            layer = names.get(id(term.alone[0]), "").rpartition(".")[0]
            yield NEGATIVE_LOSS.found(
                where.at(layer), function=term.function, place=term.place.short or "training_step",
                fault=_FAULT.format(factor=term.factor, layer=layer or "the model"), remedy=_REMEDY,
                factor=term.factor, source=term.place.source,
            )  # fmt: skip


@dataclass
class _Term:
    function: str
    place: SourceLine
    value: Tensor
    factor: float = 0.0  # the derivative of the loss by it, or by the mean of its entries
    alone: list[Tensor] = field(default_factory=list)  # parameters that have their whole gradient from it


def _terms(probe: Probe, batch: Any, trained: Sequence[Tensor]) -> list[_Term]:
    """Return the classification losses of a step with one loss, in order."""
    heard = _Terms(probe.names)
    losses: list[Tensor] = []

    def backward(loss: Tensor, *args: Any, **kwargs: Any) -> None:
        losses.append(loss)
        for term in heard.found:
            [factor] = torch.autograd.grad(loss, [term.value], retain_graph=True, allow_unused=True)
            kept = factor[factor != 0] if factor is not None else term.value.new_empty(0)
            if not kept.numel() or not _are_alike(kept, kept[0]):  # entries that count differently are weighed
                continue
            term.factor = float(kept.sum())
            if term.factor < 0 and trained:
                term.alone = _alone(loss, term, factor, trained)

    probe.run(batch, heard, backward)
    return heard.found if len(losses) == 1 else []


def _alone(loss: Tensor, term: _Term, factor: Tensor, trained: Sequence[Tensor]) -> list[Tensor]:
    """Return the parameters that learn by the term alone; none if that is all there is to learn by."""
    whole = torch.autograd.grad(loss, trained, retain_graph=True, allow_unused=True)
    part = torch.autograd.grad(term.value, trained, factor, retain_graph=True, allow_unused=True)
    reached = [(p, a, b) for p, a, b in zip(trained, whole, part, strict=True) if a is not None and bool(a.any())]
    alone = [p for p, a, b in reached if b is not None and _are_alike(a, b)]
    return alone if len(alone) < len(reached) else []


def _are_alike(one: Tensor, other: Tensor) -> bool:
    return float((one - other).abs().max()) <= ALIKE * float(one.abs().max())


def _halves(size: int) -> tuple[list[int], list[int]]:
    return [*range(size // 2)], [*range(size // 2, size)]


class _Terms(TorchFunctionMode):
    """Keep each classification loss with its graph."""

    def __init__(self, names: Mapping[int, str]) -> None:
        super().__init__()
        self.found: list[_Term] = []
        self._names = names

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        name = getattr(func, "__name__", "")
        if name in TERMS and isinstance(result, Tensor) and result.requires_grad:
            self.found.append(_Term(name, place_of(calling_frame(), self._names), result))
        return result
