"""A copy of the trained module that validation calls in its stead, and that nothing updates."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from torch import nn
from torch.nn.parameter import is_lazy
from torch.utils.hooks import RemovableHandle

from lightning_debugkit.core.compat import LightningModule
from lightning_debugkit.core.finding import Finding, Where
from lightning_debugkit.core.optimizers import averages_in
from lightning_debugkit.core.patching import Hook
from lightning_debugkit.monitors.parameters.validation_weights import UNTRAINED, Sample, changed_entries, sample_of

_PAIRS = 16  # that are followed
_VALIDATIONS = 2  # with weights of before training, after which it is told: the first may come before an average begins


@dataclass
class _Pair:
    """A module that does not train, and the trained one that it was a copy of as training began."""

    copy: str
    trained: str
    first: Sample
    began: Sample
    called: set[str] = field(default_factory=set)  # of the two, in the validation that runs
    stale: int = 0  # validations


class ValidatedCopies:
    """Hear in validation which of a module and its copy is called, as long as the copy is what it was at first."""

    def __init__(self) -> None:
        self._pairs: list[_Pair] = []
        self._handles: list[RemovableHandle] = []
        self._begun = 0

    def begin(self, where: Where, module: LightningModule, held: set[int]) -> None:
        """Find copies that are equal to the bit to a module that trains."""
        self._begun = where.step
        held = held - {id(p) for p in module.parameters() if not p.requires_grad} - averages_in(module)
        trains: list[tuple[str, nn.Module]] = []
        copies: list[tuple[str, nn.Module]] = []
        for name, part in module.named_modules():
            parameters = list(part.parameters())
            if name and parameters and not any(map(is_lazy, parameters)):  # those are without numbers so far
                (trains if any(id(p) in held for p in parameters) else copies).append((name, part))
        if not copies:
            return
        trained = {_shapes(part): name for name, part in reversed(trains)}  # the first of each
        for name, part in copies:
            own = trained.get(_shapes(part))
            is_inner = any(name.startswith(f"{pair.copy}.") for pair in self._pairs)
            if own is not None and not is_inner and len(self._pairs) < _PAIRS:
                first, began = _whole(part), _whole(module.get_submodule(own))
                # Norms as they are built are alike in all of their entries: none is a copy of another.
                is_drawn = any(bool((entries != entries[0]).any()) for entries in first.values())
                if is_drawn and not changed_entries(part, began):
                    self._pairs.append(_Pair(name, own, first, began))

    def listen(self, where: Where, module: LightningModule) -> None:
        """Hear which are called in a validation, from its first batch on until `judge`."""
        self.release()
        self._pairs = [p for p in self._pairs if not changed_entries(module.get_submodule(p.copy), p.first)]
        for pair in self._pairs if where.step > self._begun else ():
            for name in (pair.copy, pair.trained):
                called = Hook(lambda *_, pair=pair, name=name: pair.called.add(name))
                parts = module.get_submodule(name).modules()
                self._handles += [part.register_forward_pre_hook(called) for part in parts]

    def judge(self, where: Where, module: LightningModule) -> Iterator[Finding]:
        """Yield the finding for a copy that validation calls and nothing updates, while its origin trains."""
        self.release()
        for pair in list(self._pairs):
            called, pair.called = pair.called, set()
            if not called:
                continue
            if called != {pair.copy}:
                self._pairs.remove(pair)  # what trains is measured
            elif changed_entries(module.get_submodule(pair.trained), pair.began):
                pair.stale += 1
                if pair.stale == _VALIDATIONS:
                    yield UNTRAINED.found(
                        where.at(pair.copy),
                        what=f"validation calls {pair.copy}, which still has the weights",
                        steps=where.step - self._begun,
                        by=f" in {pair.trained}",
                        remedy=f"Update {pair.copy} behind each step of the optimizer, or validate {pair.trained}.",
                        trained=pair.trained,
                    )

    def release(self) -> None:
        """Stop to listen; may be called twice."""
        for handle in self._handles:
            handle.remove()
        self._handles = []


def _whole(part: nn.Module) -> Sample:
    return sample_of(part, {id(p) for p in part.parameters()})


def _shapes(part: nn.Module) -> tuple[object, ...]:
    return tuple((name, tuple(p.shape)) for name, p in part.named_parameters())
