"""Parameters that get no gradient, or one that is exactly zero, and the operation that is to blame."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from torch import Tensor, nn

from lightning_debugkit.core.finding import Finding, Severity, Where
from lightning_debugkit.core.name_lists import listed
from lightning_debugkit.core.optimizers import ParameterList
from lightning_debugkit.core.rule import Rule
from lightning_debugkit.core.sharding import unwrapped_name
from lightning_debugkit.monitors.observed_step import StepStats
from lightning_debugkit.monitors.parameters.parameter_registration import common
from lightning_debugkit.replay.autograd_graph import GraphCall, Wiring

NO_GRADIENT = Rule(
    "no-gradient",
    Severity.WARNING,
    "{names}: trainable, but without a gradient{why}",
    "{remedy}",
    section="gradients",
    can_follow=("output-range", "softmax-over-one", "zero-loss"),
)
ZERO_GRADIENT = Rule(
    "zero-gradient",
    Severity.WARNING,
    "the gradient of {names} is exactly zero: {op}{over} lets none through",
    "{remedy}",
    section="gradients",
    can_follow=("output-range", "softmax-over-one", "zero-loss"),
)

# How a cut is worded; any other function that loses the gradient does so because gradients are off.
_CUTTING = {
    "detach": "detach() cuts it off",
    "data": ".data cuts it off",
    "item": "item() turns it into a number",
    "tolist": "tolist() turns it into numbers",
    "numpy": "numpy() takes it out of the graph",
    "argmax": "argmax has no gradient",
    "tensor": "torch.tensor makes a copy without history",
}
_OWN = "never used by the loss"
_ROUTED = "never chosen"
_LIBRARY = "never used by the loss, in parts that a library builds whether or not an option uses them"
_REMEDIES = {
    _OWN: "Use it in forward, remove it, or freeze it with requires_grad_(False).",
    _ROUTED: "Use it in forward, remove it, or freeze it with requires_grad_(False).",
    _LIBRARY: "Leave it, unless an option of the library should have used it.",
}
_ONE_ENTRY = " over one entry"
_STEADY = 20  # steps with a moving weight before a gradient of zero is more than a start value
_ENOUGH = 10  # steps before a parameter can be said never to have been used


class GradientFlow:
    """Watch which parameters get gradients; ask for a replay only when one does not."""

    def __init__(self) -> None:
        self.fed: set[str] = set()
        self.zeros: dict[str, int] = {}
        self.looks = 0
        self.audits = 0
        self.idle: set[str] = set()
        self.cut: set[str] = set()  # told, with what cuts them off
        self._open: dict[int, tuple[ParameterList, list[int]]] = {}  # by optimizer: those that had no gradient so far

    def judge(self, look: StepStats, audit: Callable[[], Wiring | None]) -> Iterator[Finding]:
        """Yield what cuts or quenches gradients in this step.

        Args:
            look: The step.
            audit: Replays it and returns its wiring, ``None`` where that cannot be done.
        """
        self.looks += 1
        still = self._unfed(look)
        if not still or not any(norm is not None and p.requires_grad for p, norm in _rows(look)):
            return  # all have had a gradient; or the step was skipped: there was no backward at all
        missing, flat = [], []
        for index in still:
            name, parameter, norm = look.names[index], look.parameters[index], look.norms[index]
            if not parameter.requires_grad:
                continue
            if norm:
                self.fed.add(name)
                self.zeros[name] = 0
            elif norm is None:
                missing.append((name, parameter))
            else:
                if look.rates[index] > 0 and look.norm > 0:
                    self.zeros[name] = self.zeros.get(name, 0) + 1
                if name not in self.idle:
                    flat.append((name, parameter))
        due = self.looks in (1, 3) or any(self.zeros.get(name) == _STEADY for name, _ in flat)
        if look.loss != 0 and due and (missing or flat) and self.audits < 6:
            self.audits += 1
            wiring = audit()
            if wiring is not None:
                yield from self._cut(look.where, missing, wiring)
                yield from self._quenched(look.where, flat, wiring)

    def _unfed(self, look: StepStats) -> list[int]:
        """Return the places of the parameters that have had no gradient but zero up to the step before."""
        held, still = self._open.get(id(look.optimizer), (None, []))
        if held is not look.held:
            still = list(range(len(look.names)))
        still = [index for index in still if look.names[index] not in self.fed]
        self._open[id(look.optimizer)] = (look.held, still)
        return still

    def _cut(self, where: Where, missing: list[tuple[str, Any]], wiring: Wiring) -> Iterator[Finding]:
        groups: dict[tuple[str, str], list[tuple[str, GraphCall]]] = {}
        for name, parameter in missing:
            call = wiring.cuts.get(id(parameter))
            if call is not None:
                # One region without gradients is one cause, whatever is called in it.
                cause = (call.off, "") if call.off else (call.name, call.place.source)
                groups.setdefault(cause, []).append((name, call))
        for cut in groups.values():
            names, call = [name for name, _ in cut], min((call for _, call in cut), key=lambda call: call.index)
            how, remedy = _worded(call)
            self.cut.update(names)
            yield NO_GRADIENT.found(
                where.at(common(names)),
                names=listed(names),
                why=f": {how}",
                remedy=remedy,
                op="checkpoint" if call.off == "checkpoint" else call.name,
                source=call.place.source,
                parameters=names,
            )

    def _quenched(self, where: Where, flat: list[tuple[str, Any]], wiring: Wiring) -> Iterator[Finding]:
        groups: dict[tuple[str, str, bool | None], list[str]] = {}
        for name, parameter in flat:
            op, place, always = wiring.zeros.get(id(parameter), ("", None, False))
            if place is not None and (always or self.zeros.get(name, 0) >= _STEADY):
                groups.setdefault((op, place.source, wiring.one_entry.get(id(parameter))), []).append(name)
        for (op, source, is_meant), names in groups.items():
            self.idle.update(names)
            # Nothing to choose from, in a part of a model whose other parts learn: a selection among variables, or an
            # attention over places, that was given one.
            is_idle = bool(is_meant) and bool(self.fed)
            at = source or "that place"
            if is_idle:
                remedy = "It is always 1 there, as there is nothing to choose: leave it, or leave its part out."
            elif is_meant is False:
                remedy = f"Give {op} at {at} the dimension in which it is to choose: this one has size 1, and the "
                remedy += "result is always 1."
            else:
                remedy = f"Replace {op} at {at} by something with a slope, or pass the gradient around it "
                remedy += "(straight-through)."
            yield ZERO_GRADIENT.found(
                where.at(common(names)),
                severity=Severity.INFO if is_idle else None,
                names=listed(names),
                op=op,
                over=_ONE_ENTRY * (is_idle or is_meant is False),
                remedy=remedy,
                source=source,
                parameters=names,
            )

    def conclude(self, where: Where, module: nn.Module, trainable: Sequence[str]) -> Iterator[Finding]:
        """Yield, at the end of fit, those of the trainable parameters in optimizers that never had a gradient."""
        if self.looks < _ENOUGH:
            return
        never = [name for name in trainable if name not in self.fed and name not in self.zeros and name not in self.cut]
        groups: dict[str, list[str]] = {}
        for holder in _tops(module, set(never), set(trainable)):
            groups.setdefault(_unused(module, holder, self.fed), []).append(holder)
        for why, holders in groups.items():
            names = [name for name in never if any(_is_in(name, holder) for holder in holders)]
            yield NO_GRADIENT.found(
                where.at(holders[0] if len(holders) == 1 else common(holders)),
                severity=Severity.WARNING if why == _OWN else Severity.INFO,
                names=listed(names if len(holders) == 1 else holders),
                why=f" in all {self.looks} steps: {why}",
                remedy=_REMEDIES[why],
                parameters=names,
            )


def _rows(look: StepStats) -> Iterator[tuple[Tensor, float | None]]:
    return zip(look.parameters, look.norms, strict=True)


def _worded(call: GraphCall) -> tuple[str, str]:
    """Return how a call cuts gradients off, and what to do."""
    place = call.place.source or call.name
    line = ":".join(place.split(":")[:2])
    if call.off == "checkpoint":
        return (
            "checkpoint(use_reentrant=True) gives none where no input of it needs one, as behind a frozen layer",
            f"Pass use_reentrant=False to checkpoint at {line}, or let its input need a gradient "
            "(enable_input_require_grads() in transformers and peft).",
        )
    off = "(no_grad)" if call.off else "(no_grad, or an integer result)"
    how = _CUTTING.get(call.name, f"gradients are off where {call.name} is called {off}")
    return how, f"Keep the graph at {place}, or freeze what lies before it."


def _is_in(name: str, holder: str) -> bool:
    return not holder or name == holder or name.startswith(f"{holder}.")


def _unused(module: nn.Module, holder: str, fed: set[str]) -> str:
    """Return why what ``holder`` names had no gradient, as far as it is known."""
    if _is_routed(module, holder, fed):
        return _ROUTED
    # Who would have called it: the innermost module around it that is not torch's.
    parts = {unwrapped_name(name): part for name, part in module.named_modules()}
    path = holder
    while path:
        path = path.rpartition(".")[0]
        owner = type(parts.get(path, module))
        if not owner.__module__.startswith("torch."):
            return _LIBRARY if _is_installed(owner) else _OWN
    return _OWN


def _is_installed(kind: type) -> bool:
    try:
        file = inspect.getfile(kind)
    except (TypeError, OSError):
        return False
    return "site-packages" in file or "dist-packages" in file


def _tops(module: nn.Module, never: set[str], trainable: set[str]) -> list[str]:
    """Return the outermost modules all of whose trainable parameters are in ``never``, else the parameters."""
    tops: list[str] = []
    for holder in [*(name for name, _ in module.named_modules() if name), *sorted(never)]:
        inside = {name for name in trainable if name == holder or name.startswith(f"{holder}.")}
        if inside and inside <= never and not any(holder == top or holder.startswith(f"{top}.") for top in tops):
            tops.append(holder)
    return tops


def _is_routed(module: nn.Module, holder: str, fed: set[str]) -> bool:
    """Tell whether ``holder`` is an entry of a list or dict of modules another of which was trained: an idle expert."""
    path = holder.rpartition(".")[0]
    parent = {unwrapped_name(name): part for name, part in module.named_modules()}.get(path)
    if not isinstance(parent, nn.ModuleList | nn.ModuleDict):
        return False
    return any(name.startswith(f"{path}.") and not name.startswith(f"{holder}.") for name in fed)
