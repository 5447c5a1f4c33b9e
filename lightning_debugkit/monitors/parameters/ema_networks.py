"""Networks that follow the model: no optimizer holds them, and yet they change. A loss may be measured against them."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import replace
from typing import Any

from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from lightning_debugkit.core.finding import Finding, Severity
from lightning_debugkit.core.patching import Hearing
from lightning_debugkit.monitors.parameters.parameter_registration import common
from lightning_debugkit.monitors.parameters.validation_weights import same_entries
from lightning_debugkit.stats.tensor_norms import is_readable, some

_ENTRIES = 64  # of a tensor that stand for it


class EmaNetworks:
    """Tell whether the training step asks a follower: then its loss grows with what the model itself predicts.

    A target network, as value learning has it, or a teacher. A moving average that only validation runs is none.
    """

    def __init__(self) -> None:
        self._kept: dict[str, Tensor] = {}
        self._asked = ""  # the follower that a training step was heard to ask
        self.waiting: Finding | None = None  # a finding that is kept back
        self._hearing: Hearing | None = None

    def begin(self, module: nn.Module, held: Set[int]) -> None:
        """Keep some entries of the parameters that no optimizer holds."""
        self._kept = {
            name: some(p, _ENTRIES)
            for name, p in module.named_parameters()
            if id(p) not in held and not is_lazy(p) and is_readable(p)
        }

    def doubt(self, finding: Finding, module: nn.Module, held: Set[int]) -> Finding | None:
        """Return ``finding`` if nothing follows the model; else keep it until a step has told what it asks."""
        if self._asked:
            return self._excused(finding)
        moved = self._moved(module, held)
        if not moved:
            return finding
        if self.waiting is None:
            self.waiting = finding
            self._listen(module, moved)
        return None

    def settle(self, step: int | None = None) -> Finding | None:
        """Return what was kept back, once a later step than its own has run, or at the end of fit (no ``step``)."""
        found = self.waiting
        if found is None or (step is not None and step <= found.where.step + 1):
            return None
        self.stop()
        return self._excused(found) if self._asked else found

    def stop(self) -> None:
        """Hear no more, and let go of what was kept back."""
        if self._hearing is not None:
            self._hearing.remove()
        self._hearing, self.waiting = None, None

    def _moved(self, module: nn.Module, held: Set[int]) -> list[str]:
        """Return the parameters that have changed, though no optimizer holds them and they get no gradient."""
        apart = {n: p for n, p in module.named_parameters() if n in self._kept and id(p) not in held and p.grad is None}
        return [name for name, p in apart.items() if not same_entries(some(p, _ENTRIES), self._kept[name])]

    def _listen(self, module: nn.Module, moved: list[str]) -> None:
        owners = {name.rpartition(".")[0] for name in moved}
        parts = {id(part): (name, part) for name, part in module.named_modules() if name in owners}

        def hear(part: nn.Module, args: Any, output: Any) -> None:
            if module.training and not self._asked:  # what validation asks says nothing
                self._asked = common([name for name, _ in parts.values()]) or parts[id(part)][0]

        self._hearing = Hearing([part for _, part in parts.values()], hear)

    def _excused(self, finding: Finding) -> Finding:
        return replace(
            finding,
            severity=Severity.INFO,
            message=f"{finding.message}; but {self._asked}, which follows the model, makes its targets: they grow, too",
            advice="Judge this run by what it is to achieve, such as the reward. If that falls, lower the learning "
            f"rate, or let {self._asked} follow more slowly.",
            evidence={**finding.evidence, "follower": self._asked},
        )
