"""What a module keeps for good with graphs behind it: losses, predictions, weights that are changed in place."""

from __future__ import annotations

import inspect
import re
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import islice
from typing import Any

from torch import Tensor, nn

from lightning_debugkit.core.finding import Finding, Severity, Where
from lightning_debugkit.core.name_lists import listed
from lightning_debugkit.core.rule import Rule
from lightning_debugkit.monitors.parameters.parameter_registration import common
from lightning_debugkit.replay.autograd_graph import nodes
from lightning_debugkit.replay.source_lines import SourceLine

GRAPH_KEPT = Rule(
    "graph-kept",
    Severity.WARNING,
    "{name} keeps the graphs of all steps: {before} {what} at the end of the first epoch, {now} at that of the second; "
    "memory grows with each step",
    "Keep numbers: loss.item() or loss.detach(){place}.",
    section="gradients",
)
_IN_PLACE = (
    "{names}: changed in place while gradients are recorded, so that the weights of all steps hang on them, by {now} "
    "operations now; memory grows with each step"
)
_UNRECORDED = "Change them under torch.no_grad(), as with @torch.no_grad() on the function that does."
# What is cleared at the end of each epoch, as Lightning's guide to such lists has it, does not grow from one to the
# next; nor do ten entries weigh anything.
FEWEST = 10
LARGEST = 200_000  # nodes of one graph that are counted
_OWN = {"_parameters", "_modules", "_trainer", "_fabric", "_metric_attributes"}


class KeptGraphs:
    """Count, between two epochs, what hangs on attributes of the model with a graph: at no cost in any step."""

    def __init__(self) -> None:
        self._before: list[dict[str, int]] = []
        self._told = False  # of parameters

    def new_epoch(self, module: nn.Module, where: Where) -> Iterator[Finding]:
        """Yield, when two epochs are over, the attributes that have grown by graphs in both."""
        if len(self._before) > 2:
            return
        self._before.append({name: count for name, count in _counted(module) if count})
        if len(self._before) < 3:
            return
        start, one, two = self._before
        for name, now in two.items():
            before = one.get(name, 0)
            if min(before - start.get(name, 0), now - before) >= FEWEST:
                place = _line(module, name)
                is_chain = isinstance(_at(module, name), Tensor)
                yield GRAPH_KEPT.found(
                    where.at(name.rpartition(".")[0]), name=name, before=before, now=now,
                    what="operations" if is_chain else "tensors with a graph",
                    place=f" at {place.source.split(': ')[0]}" if place.source else "", source=place.source,
                )  # fmt: skip

    def parameters(self, module: nn.Module, where: Where) -> Iterator[Finding]:
        """Yield, when an epoch is over, the parameters that are no longer leaves of the graph."""
        found = {} if self._told else dict(_changed_in_place(module))
        now = max(found.values(), default=0)
        if now >= FEWEST:
            self._told = True
            names = list(found)
            rule = replace(GRAPH_KEPT, says=_IN_PLACE, advice=_UNRECORDED)
            yield rule.found(where.at(common(names)), names=listed(names), now=now, parameters=names)


def _changed_in_place(module: nn.Module) -> Iterator[tuple[str, int]]:
    for name, parameter in module.named_parameters():
        if parameter.grad_fn is not None:
            yield name, _nodes(parameter)


def _counted(module: nn.Module) -> Iterator[tuple[str, int]]:
    """Yield, for each attribute of the model, how many tensors with a graph it holds, or operations it hangs on."""
    for path, part in module.named_modules():
        if type(part).__module__.startswith(("torch.", "torchmetrics.")):
            continue
        for name, value in [*vars(part).items(), *part._buffers.items()]:
            if name not in _OWN:
                yield (
                    f"{path}.{name}" if path else name,
                    _nodes(value) if isinstance(value, Tensor) else _held(value, 2),
                )


def _held(value: Any, depth: int) -> int:
    if isinstance(value, Tensor):
        return int(value.grad_fn is not None)
    # One with a limit forgets.
    if not depth or (isinstance(value, deque) and value.maxlen is not None):
        return 0
    if isinstance(value, Mapping):
        return sum(_held(item, depth - 1) for item in value.values())
    return sum(_held(item, depth - 1) for item in value) if isinstance(value, list | tuple | deque) else 0


def _nodes(tensor: Tensor) -> int:
    """Return how many operations a tensor hangs on."""
    return sum(1 for _ in islice(nodes(tensor.grad_fn), LARGEST))


def _at(module: nn.Module, path: str) -> Any:
    owner, _, name = path.rpartition(".")
    return getattr(module.get_submodule(owner), name, None)


def _line(module: nn.Module, path: str) -> SourceLine:
    """Return the line that adds to an attribute, an empty one where no text of its class says so."""
    owner, _, name = path.rpartition(".")
    adds = re.compile(rf"self\.{re.escape(name)}\b.*(\.append\(|\.extend\(|\+=|=.*self\.{re.escape(name)}\b)")
    for kind in type(module.get_submodule(owner)).__mro__:
        if kind.__module__.startswith(("torch.", "lightning.", "builtins")):
            continue
        try:
            lines, first = inspect.getsourcelines(kind)
            file = inspect.getsourcefile(kind) or ""
        except (OSError, TypeError):  # no text is left of it
            continue
        for number, text in enumerate(lines, first):
            if adds.search(text):
                return SourceLine(file, number)
    return SourceLine()
