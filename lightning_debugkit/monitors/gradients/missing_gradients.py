"""Parameters that get no gradient, or one that is exactly zero, and the operation that is to blame."""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
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
    can_follow=("output-range", "softmax-over-one", "unused-input", "zero-loss"),
)
ZERO_GRADIENT = Rule(
    "zero-gradient",
    Severity.WARNING,
    "the gradient of {names} is exactly zero: {op}{over} lets none through",
    "{remedy}",
    section="gradients",
    can_follow=("output-range", "softmax-over-one", "unused-input", "zero-loss"),
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
_CONSTANT = "what it adds is lost on the way to the loss, as where that is made of derivatives"
_LIBRARY = "never used by the loss, in parts that a library builds whether or not an option uses them"
_REMEDIES = {
    _OWN: "Use it in forward, remove it, or freeze it with requires_grad_(False).",
    _ROUTED: "Use it in forward, remove it, or freeze it with requires_grad_(False).",
    _CONSTANT: "Leave it, or build its layer with bias=False.",
    _LIBRARY: "Leave it, unless an option of the library should have used it.",
}
_ONE_ENTRY = " over one entry"
_NO_SLOPE = "Look for what has no slope between them and the loss: a range that is cut off, a factor of 0."
_STEADY = 20  # steps with a moving weight before a gradient of zero is more than a start value
_GONE = 20  # looks in a row without the gradient that there was before
_STARVED = 3  # the same, where nothing that the optimizer holds has one though backward ran
_AUDITS = 3  # replays of such steps in a run
_Named = tuple[str, Tensor]
_Flat = tuple[str, Tensor, int]  # with the steps that its gradient was zero in
_ENOUGH = 10  # steps before a parameter can be said never to have been used


@dataclass
class _Unfed:
    """The parameters of an optimizer that have had no gradient but zero so far."""

    held: ParameterList
    at: NDArray[np.intp]  # places of the unfed among them, `(n,)`
    zeros: NDArray[np.intp]  # for each, steps with a gradient of exactly zero, `(n,)`

    @property
    def counts(self) -> dict[str, int]:
        """Those steps by the name of the parameter."""
        return {self.held.names[at]: int(zeros) for at, zeros in zip(self.at, self.zeros, strict=True)}

    def keep(self, which: NDArray[np.bool_]) -> None:
        """Forget the others."""
        self.at, self.zeros = self.at[which], self.zeros[which]


class GradientFlow:
    """Watch which parameters get gradients; ask for a replay only when one does not."""

    def __init__(self) -> None:
        self.fed: set[str] = set()
        self.looks = 0
        self.audits = 0
        self.idle: set[str] = set()
        self.cut: set[str] = set()  # told, with what cuts them off
        self._unfed: dict[int, _Unfed] = {}  # by optimizer
        self._missing: set[str] = set()  # a replay has told why, or that nothing uses it
        self._steady: set[str] = set()  # zero for so long that it is no matter of the start
        self._wiring = Wiring()  # of the last replay: what quenches gradients
        self._gone: dict[int, NDArray[np.intp]] = {}  # by optimizer: looks in a row without a gradient, of each
        self._late = 0  # replays for the sake of these

    def judge(
        self, look: StepStats, audit: Callable[[], Wiring | None], has_backward: bool = True
    ) -> Iterator[Finding]:
        """Yield what cuts or quenches gradients in this step.

        Args:
            audit: Replays it and returns its wiring, ``None`` where that cannot be done.
            has_backward: A backward pass was meant for this step.
        """
        self.looks += 1
        unfed = self._of(look)
        has_all = look.present is None and bool(look.found.all())
        if has_backward and not (has_all and id(look.optimizer) not in self._gone):
            yield from self._lost(look, audit)
        if not unfed.at.size or not look.is_fed:
            return  # all have had a gradient; or this step has none at all
        names, parameters, norms = look.names, look.parameters, look.each[unfed.at]
        trains = np.array([parameters[at].requires_grad for at in unfed.at])
        arrived = trains & (norms > 0)
        self.fed.update(names[at] for at in unfed.at[arrived])
        rates = np.array(look.group_rates)[[look.held.groups[at] for at in unfed.at]]
        # Where the loss is 0, as of a hinge that is satisfied, a gradient of 0 is its due.
        unfed.zeros += trains & (norms == 0) & (rates > 0) & (look.norm > 0 or bool(look.loss))
        trains, norms = trains[~arrived], norms[~arrived]
        unfed.keep(~arrived)
        missing = [(names[at], parameters[at]) for at in unfed.at[trains & np.isnan(norms)]]
        is_flat = trains & (norms == 0)
        counted = zip(unfed.at[is_flat], unfed.zeros[is_flat], strict=True)
        flat = [(names[at], parameters[at], int(zeros)) for at, zeros in counted if names[at] not in self.idle]
        if look.loss != 0 and (missing or flat) and self.audits < 6:
            yield from self._explained(look.where, missing, flat, audit)

    def _lost(self, look: StepStats, audit: Callable[[], Wiring | None]) -> Iterator[Finding]:
        """Yield what cuts off parameters that had a gradient before, or all that an optimizer holds."""
        gone = self._gone.get(id(look.optimizer))
        missing = ~(look.each > 0)
        if gone is None or gone.size != missing.size:
            gone = np.zeros(missing.size, np.intp)
        gone = self._gone[id(look.optimizer)] = np.where(missing, gone + 1, 0)
        times = _GONE if look.is_fed else _STARVED
        if self._late >= _AUDITS or not (gone == times).any():
            return
        whole = not look.is_fed
        rows = zip(look.names, look.parameters, gone == times, strict=True)
        lost = [
            (n, p) for n, p, now in rows if now and p.requires_grad and n not in self.cut and (whole or n in self.fed)
        ]
        wiring = audit() if lost else None
        if wiring is not None:
            self._late += 1
            since = f" since step {look.where.step - times + 1}" if any(n in self.fed for n, _ in lost) else ""
            yield from self._cut(look.where, lost, wiring, since)

    def _of(self, look: StepStats) -> _Unfed:
        """Return the parameters that have had no gradient but zero up to the step before."""
        unfed = self._unfed.get(id(look.optimizer))
        if unfed is None or unfed.held is not look.held:
            before = {} if unfed is None else unfed.counts
            at = [place for place, name in enumerate(look.names) if name not in self.fed]
            zeros = [before.get(look.names[place], 0) for place in at]
            unfed = self._unfed[id(look.optimizer)] = _Unfed(look.held, np.array(at, np.intp), np.array(zeros, np.intp))
        return unfed

    def _explained(
        self, where: Where, missing: Sequence[_Named], flat: Sequence[_Flat], audit: Callable[[], Wiring | None]
    ) -> Iterator[Finding]:
        """Yield what a replay tells of them; there is none where the last one has told all that there is to tell."""
        steady = {name: id(p) for name, p, zeros in flat if zeros >= _STEADY and name not in self._steady}
        is_new = bool(flat) or any(name not in self._missing for name, _ in missing)
        self._steady.update(steady)
        if (self.looks in (1, 3) and is_new) or not self._wiring.zeros.keys() >= {*steady.values()}:
            self.audits += 1
            wiring = audit()
            if wiring is None:
                return
            self._wiring = Wiring(zeros=wiring.zeros, one_entry=wiring.one_entry)  # calls would keep their tensors
            self._missing.update(name for name, _ in missing)
            yield from self._cut(where, missing, wiring)
        elif not steady:
            return
        yield from self._quenched(where, flat, self._wiring)

    def _cut(self, where: Where, missing: Sequence[_Named], wiring: Wiring, since: str = "") -> Iterator[Finding]:
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
                why=f"{since}: {how}",
                remedy=remedy,
                op="checkpoint" if call.off == "checkpoint" else call.name,
                source=call.place.source,
                parameters=names,
            )

    def _quenched(self, where: Where, flat: Sequence[_Flat], wiring: Wiring) -> Iterator[Finding]:
        groups: dict[tuple[str, str, bool | None], list[str]] = {}
        for name, parameter, zeros in flat:
            op, place, always = wiring.zeros.get(id(parameter), ("", None, False))
            if place is not None and (always or zeros >= _STEADY):
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
            elif op == "grad":
                remedy = f"Take activations that bend, such as tanh or SiLU, in what is differentiated at {at}: the "
                remedy += "second derivative of ReLU is 0."
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
        flat = {name for unfed in self._unfed.values() for name, zeros in unfed.counts.items() if zeros}
        if not self.fed and flat:  # one cause, and what else stands still does so by it
            if dead := sorted(flat - self.idle):
                op, remedy = f"in all {self.looks} steps something between them and the loss", _NO_SLOPE
                yield ZERO_GRADIENT.found(
                    where.at(common(dead)), names=listed(dead), op=op, over="", remedy=remedy, parameters=dead
                )
            return
        never = [name for name in trainable if name not in self.fed | flat | self.cut]
        parts = {unwrapped_name(name): part for name, part in module.named_modules()}
        groups: dict[str, dict[str, list[str]]] = {}
        for holder, names in _tops(module, never, trainable).items():
            groups.setdefault(_unused(parts, holder, self.fed), {})[holder] = names
        for why, tops in groups.items():
            holders, names = list(tops), [name for inside in tops.values() for name in inside]
            yield NO_GRADIENT.found(
                where.at(holders[0] if len(holders) == 1 else common(holders)),
                severity=Severity.WARNING if why == _OWN else Severity.INFO,
                names=listed(names if len(holders) == 1 else holders),
                why=f" in all {self.looks} steps: {why}",
                remedy=_REMEDIES[why],
                parameters=names,
            )


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


def _unused(parts: Mapping[str, nn.Module], holder: str, fed: set[str]) -> str:
    """Return why what ``holder`` names had no gradient, as far as it is known."""
    if _is_routed(parts, holder, fed):
        return _ROUTED
    if holder.endswith(".bias") and f"{holder.removesuffix('bias')}weight" in fed:
        return _CONSTANT
    # Who would have called it: the innermost module around it that is not torch's, or one of torch's own whose other
    # parts learn, as the encoder of nn.Transformer.
    for path in _around(holder):
        owner = type(parts.get(path, parts[""]))
        if not owner.__module__.startswith("torch."):
            return _LIBRARY if _is_installed(owner) else _OWN
        if _is_built_whole(owner) and any(name.startswith(f"{path}.") for name in fed):
            return _LIBRARY
    return _OWN


def _is_built_whole(kind: type) -> bool:
    """Tell whether torch chooses what is inside, unlike in lists and sequences that a program fills."""
    return kind.__module__.startswith("torch.nn.modules.") and kind.__module__ != nn.Sequential.__module__


def _is_installed(kind: type) -> bool:
    try:
        file = inspect.getfile(kind)
    except (TypeError, OSError):
        return False
    return "site-packages" in file or "dist-packages" in file


def _around(name: str) -> Iterator[str]:
    """Yield the paths around ``name``, from the innermost to that of the whole model."""
    while name:
        name = name.rpartition(".")[0]
        yield name


def _tops(module: nn.Module, never: Sequence[str], trainable: Sequence[str]) -> dict[str, list[str]]:
    """Return the outermost modules all of whose trainable parameters are in ``never``, else the parameters.

    Each with those of ``never`` that are inside.
    """
    unfed, held = (Counter(path for name in names for path in (name, *_around(name))) for names in (never, trainable))
    whole = [path for path, count in unfed.items() if path and count == held[path]]
    modules = [name for name, _ in module.named_modules()]
    order = {path: place for place, path in enumerate([*modules, *sorted(never)])}
    tops: dict[str, list[str]] = {}
    for path in sorted((path for path in whole if path in order), key=order.__getitem__):
        if not any(outer in tops for outer in _around(path)):
            tops[path] = []
    for name in never:
        tops[next(path for path in (name, *_around(name)) if path in tops)].append(name)
    return tops


def _is_routed(parts: Mapping[str, nn.Module], holder: str, fed: set[str]) -> bool:
    """Tell whether ``holder`` is an entry of a list or dict of modules another of which was trained: an idle expert."""
    path = holder.rpartition(".")[0]
    if not isinstance(parts.get(path), nn.ModuleList | nn.ModuleDict):
        return False
    return any(name.startswith(f"{path}.") and not name.startswith(f"{holder}.") for name in fed)
