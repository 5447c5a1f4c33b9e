"""Modules that are frozen, and change all the same."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor, nn

from lightning_debugkit.core.finding import Finding, Severity, Where
from lightning_debugkit.core.rule import Rule
from lightning_debugkit.stats.tensor_norms import bits, is_readable

FROZEN = Rule(
    "frozen-module-changed",
    Severity.WARNING,
    "{module} is frozen, but {what}",
    "{remedy}",
    section="parameters",
    cost="sampled",
)


class FrozenModules:
    """Watch the batch norm statistics of modules whose parameters are all frozen."""

    def __init__(self) -> None:
        self.kept: dict[str, tuple[nn.Module, list[int], dict[str, int]]] = {}

    def begin(self, module: nn.Module) -> None:
        """Take the bits of what should not change."""
        self.kept = {}
        for name, part in module.named_modules():
            own = [p for p in part.parameters() if is_readable(p)]
            inside = any(name == top or name.startswith(f"{top}.") for top in self.kept)
            if name and own and not inside and not any(p.requires_grad for p in own):
                layers = _statistics(part)
                if layers:
                    self.kept[name] = (part, [bits(p) for p in own], {n: bits(t) for n, t in layers.items()})

    def judge(self, where: Where) -> Iterator[Finding]:
        """Yield frozen modules whose statistics moved while their weights did not; a moving average moves both."""
        for name, (part, weights, statistics) in self.kept.items():
            if [bits(p) for p in part.parameters() if is_readable(p)] != weights or any(
                p.requires_grad for p in part.parameters()
            ):
                continue
            changed = [n for n, tensor in _statistics(part).items() if bits(tensor) != statistics.get(n)]
            if changed:
                yield FROZEN.found(
                    where.at(name),
                    what=f"the running statistics of {len(changed)} batch norm layers in it change",
                    remedy=f"Call self.{name}.eval() in on_train_epoch_start: requires_grad_(False) stops the weights, "
                    "not the statistics.",
                    buffers=[f"{name}.{n}" for n in changed],
                )


def _statistics(part: nn.Module) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in part.named_buffers() if name.endswith("running_mean")}
