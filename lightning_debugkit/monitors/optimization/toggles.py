"""Parameters that an optimizer steps although a forgotten toggle has switched their gradients off."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from lightning_debugkit.core.compat import LightningModule, toggled_parameters
from lightning_debugkit.core.finding import Finding, Severity, Where
from lightning_debugkit.core.name_lists import listed
from lightning_debugkit.core.rule import Rule
from lightning_debugkit.monitors.observed_step import StepStats
from lightning_debugkit.monitors.parameters.parameter_registration import common

TOGGLED = Rule("toggle-without-untoggle", Severity.ERROR, "{names}: {told}", "{remedy}", section="optimization")

_BY_TOGGLE = " (toggle_optimizer without untoggle_optimizer)"
_UNTOGGLE = "Call self.untoggle_optimizer(optimizer) after each step of the optimizer that was toggled."
_NO_GRADIENT = "does not require grad"  # torch's words for a loss that nothing trainable has a part in
_TOGGLED = 3  # steps without gradient, where Lightning's toggle is still on: the mechanism itself
_OFF = 10  # the same, where all that the optimizer trains has been switched off by other means: a choice


@dataclass
class _Off:
    """Steps of one optimizer in a row in which parameters were switched off, and since when."""

    steps: int
    epoch: int
    batch: int


@dataclass
class Toggles:
    """Watch the flags of parameters that trained when the fit began."""

    trained: set[int] = field(default_factory=set)
    off: dict[int, _Off] = field(default_factory=dict)

    def begin(self, module: LightningModule) -> None:
        """Take note of what trains."""
        self.trained = {id(p) for p in module.parameters() if p.requires_grad}

    def before_step(self, look: StepStats, module: LightningModule, batch_idx: int) -> Iterator[Finding]:
        """Yield what the optimizer steps in vain; called once a step."""
        key = id(look.optimizer)
        off = any(id(p) in self.trained for p in look.frozen)
        rows = zip(look.names, look.parameters, look.norms, strict=True) if off else ()
        still = [(name, p) for name, p, norm in rows if not p.requires_grad and id(p) in self.trained and not norm]
        if not still:
            self.off.pop(key, None)
            return
        switched = toggled_parameters(module)
        by_toggle = any(p in switched for _, p in still)
        whole = len(still) == sum(id(p) in self.trained for p in look.parameters)
        if not by_toggle and not whole:
            self.off.pop(key, None)  # a part that was frozen on the way
            return
        since = self.off.setdefault(key, _Off(0, look.where.epoch, batch_idx))
        since.steps += 1
        if since.steps != (_TOGGLED if by_toggle else _OFF):
            return
        names = [name for name, _ in still]
        told = f"{type(look.optimizer).__name__} holds and steps them, but their requires_grad is False since batch "
        told += f"{since.batch} of epoch {since.epoch}{_BY_TOGGLE * by_toggle}: they do not train"
        remedy = (
            _UNTOGGLE if by_toggle else "Switch requires_grad on again before the loss of this optimizer is computed."
        )
        where = look.where.at(common(names))
        yield TOGGLED.found(where, names=listed(names), told=told, remedy=remedy, parameters=names)

    def raised(self, where: Where, module: LightningModule, error: BaseException) -> Iterator[Finding]:
        """Yield what a toggle had switched off where a loss had no gradient at all, so that backward raised."""
        toggled = toggled_parameters(module)
        off = [name for name, p in module.named_parameters() if p in toggled and not p.requires_grad]
        if _NO_GRADIENT in str(error) and off:
            told = f"requires_grad is False{_BY_TOGGLE}, and the loss has no gradient: backward raises"
            yield TOGGLED.found(where.at(common(off)), names=listed(off), told=told, remedy=_UNTOGGLE, parameters=off)
