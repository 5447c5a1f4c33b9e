"""The weights that validation sees: others put in their place and kept by training, or those of before training."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from lightning_debugkit.core.compat import LightningModule, Trainer, callbacks_of
from lightning_debugkit.core.finding import Finding, Severity, Where
from lightning_debugkit.core.host_copy import read
from lightning_debugkit.core.rule import Rule
from lightning_debugkit.stats.tensor_norms import is_readable, some

KEPT = Rule(
    "validation-weights-kept",
    Severity.WARNING,
    "validation ran on the weights that {store} keeps, and training goes on with them: what it had trained is lost",
    "Clone the trained weights before validation replaces them, and put them back when it ends.",
    section="validation",
)

UNTRAINED = Rule(
    "untrained-weights-validated",
    Severity.WARNING,
    "{what} from before training, not those that {steps} steps have trained{by}",
    "{remedy}",
    section="validation",
)

_PARAMETERS = 64  # that stand for the model
_ENTRIES = 16  # of each
_DEEP = 3  # objects within objects in which a copy of the weights is looked for
_MOST = 10_000  # tensors that are looked at
_MOVES_BY = 5  # steps after which weights that train have moved

Sample = dict[str, Tensor]
Copies = list[tuple[torch.Size, Tensor]]  # shapes and entries of tensors that somebody keeps


class SwappedWeights:
    """Compare entries of the weights behind the last step, in validation, and as training goes on.

    Who keeps a copy of what validation ran on is found in one validation; in the next it must have had that copy before
    the weights changed. So neither a best state that is kept, nor weights that are pruned for validation, is meant.
    """

    def __init__(self) -> None:
        self._trained: Sample = {}
        self._validated: Sample = {}
        self._step = -1
        self._keepers: set[tuple[str, str]] = set()
        self._kept: dict[tuple[str, str], list[Copies]] = {}  # by keeper: what it had before validation
        self._store = ""
        self._told = False
        self.is_open = False  # training has not gone on since weights were taken

    def after_batch(self, where: Where, trainer: Trainer, module: LightningModule, held: set[int]) -> None:
        """Take the weights before a validation; called when one is due."""
        self.is_open = True
        self._trained = {} if self._told else sample_of(module, held)
        self._validated, self._step, self._store = {}, where.step, ""
        self._kept = {key: [_copies(value)] for key, value in _attributes(trainer, module) if key in self._keepers}

    def starting(self, trainer: Trainer, module: LightningModule) -> None:
        """Take what is kept as validation begins, if the weights are still those that were trained."""
        if self._kept and changed_entries(module, self._trained) == {}:
            for key, value in _attributes(trainer, module):
                if key in self._kept:
                    self._kept[key].append(_copies(value))

    def validating(self, where: Where, trainer: Trainer, module: LightningModule) -> None:
        """Look at the weights that validation is about to use, and for who keeps them."""
        if not self._trained or self._step != where.step or self._validated:
            return
        changed = self._validated = changed_entries(module, self._trained)
        if not changed:
            return
        trained = {name: self._trained[name] for name in changed}
        had = [key for key, kept in self._kept.items() if any(_holds(copies, changed, module) for copies in kept)]
        self._store = ".".join(had[0]) if had else ""
        for key, value in [] if had else _attributes(trainer, module):
            copies = _copies(value, besides=changed, module=module)
            # A copy that was exchanged with the weights now has those that were trained.
            if _holds(copies, changed, module) or _holds(copies, trained, module):
                self._keepers.add(key)

    def trains(self, where: Where, module: LightningModule) -> Iterator[Finding]:
        """Yield the finding if training goes on with what somebody has put in place for validation."""
        self.is_open = False
        validated, store = self._validated, self._store
        self._trained, self._validated, self._store = {}, {}, ""
        if store and not changed_entries(module, validated):
            self._told = True
            yield KEPT.found(where, store=store, parameters=list(validated))


class ValidatedWeights:
    """Compare some entries of the weights: as training began, as validation sees them, as training goes on."""

    def __init__(self) -> None:
        self._first: Sample = {}
        self._begun = 0
        self.is_doubtful = False  # validation has just seen the weights of the begin
        self._moved = False  # by training, before validation

    def begin(self, where: Where, module: LightningModule, held: set[int]) -> None:
        """Keep a few entries of the weights that training starts from."""
        trains = {id(p) for p in module.parameters() if p.requires_grad}
        self._first = sample_of(module, held & trains)
        self._begun = where.step

    def validating(self, where: Where, module: LightningModule) -> None:
        """Look at the weights that validation is about to use."""
        # Weights that training has not moved yet, as at a rate of 0, are those that train.
        self.is_doubtful = self._moved and where.step > self._begun and self._is_first(module)

    def trained(self, where: Where, trainer: Trainer, module: LightningModule) -> Iterator[Finding]:
        """Yield the finding if validation saw the first weights, and those that train are others."""
        if not self.is_doubtful or self._is_first(module):
            return
        self.is_doubtful = False
        yield self._finding(where, trainer, "validation looked at the weights")

    def moved(self, where: Where, module: LightningModule) -> None:
        """Take note of whether training moves the weights, some steps after its begin."""
        if where.step == self._begun + _MOVES_BY:
            self._moved = self._moved or (bool(self._first) and not self._is_first(module))

    def conclude(self, where: Where, trainer: Trainer, module: LightningModule) -> Iterator[Finding]:
        """Yield the finding if the weights that the fit leaves are those of its begin."""
        if self._moved and self._is_first(module):
            found = self._finding(where, trainer, "the fit leaves the weights", Severity.ERROR)
            yield found

    def _finding(self, where: Where, trainer: Trainer, what: str, severity: Severity | None = None) -> Finding:
        callbacks = callbacks_of(trainer)
        names = [type(callback).__name__ for callback in callbacks]
        by = next((name for name in names if any(word in name for word in ("Averag", "EMA", "Ema"))), "")
        told = f": the average that {by} puts in their place has not begun" if by else ""
        remedy = "Look for code that swaps weights around validation: what it swaps in was never updated."
        if by:
            remedy = (
                f"Let {by} begin within the run (update_starting_at_step, update_starting_at_epoch), or leave it out."
            )
        return UNTRAINED.found(
            where, severity=severity, what=what, steps=where.step - self._begun, by=told, remedy=remedy, callback=by
        )

    def _is_first(self, module: LightningModule) -> bool:
        held = dict(module.named_parameters())
        if not self._first or not self._first.keys() <= held.keys():
            return False
        same = []
        for name, first in self._first.items():
            now = some(held[name], _ENTRIES)
            if now.shape != first.shape or now.device != first.device or now.dtype != first.dtype:
                return False
            same.append((now == first).all())
        return bool(read([], same).all())


def sample_of(module: nn.Module, held: set[int]) -> Sample:
    named = [(n, p) for n, p in module.named_parameters() if id(p) in held and not is_lazy(p) and is_readable(p)]
    return {name: some(p, _ENTRIES) for name, p in named[:: max(1, len(named) // _PARAMETERS)]}


def changed_entries(module: nn.Module, sample: Sample) -> Sample:
    """Return the entries of now where they are not those of the sample."""
    held = dict(module.named_parameters())
    now = {name: some(held[name], _ENTRIES) for name in sample if name in held}
    return {name: entries for name, entries in now.items() if not same_entries(entries, sample[name])}


def same_entries(now: Tensor, then: Tensor) -> bool:
    """Tell whether entries are those of then, wherever they lie."""
    return now.shape == then.shape and torch.equal(now, then.to(now.device))


def _attributes(trainer: Trainer, module: LightningModule) -> Iterator[tuple[tuple[str, str], Any]]:
    """Yield what the module and the callbacks keep, by owner and name."""
    for callback in callbacks_of(trainer):
        for name, value in vars(callback).items():
            yield (type(callback).__name__, name), value
    for name, value in {**vars(module), **module._modules}.items():
        if not name.startswith("_"):  # torch's and Lightning's own
            yield ("self", name), value


def _copies(value: Any, besides: Sample | None = None, module: nn.Module | None = None) -> Copies:
    """Return the tensors inside of ``value``, but for the parameters ``besides``, as shapes and entries."""
    held = {} if module is None else dict(module.named_parameters())
    own = {held[name].data_ptr() for name in besides or ()}
    return [(tensor.shape, some(tensor, _ENTRIES)) for tensor in _tensors(value) if tensor.data_ptr() not in own]


def _holds(copies: Copies, sample: Sample, module: nn.Module) -> bool:
    """Tell whether all of a sample's parameters are among the copies."""
    held = dict(module.named_parameters())
    return all(
        any(shape == held[name].shape and same_entries(entries, wanted) for shape, entries in copies)
        for name, wanted in sample.items()
    )


def _tensors(value: Any) -> Iterator[Tensor]:
    waiting, seen, found = [(value, 0)], set(), 0
    while waiting and found < _MOST:
        here, depth = waiting.pop()
        if id(here) in seen:
            continue
        seen.add(id(here))
        if isinstance(here, Tensor):
            if is_readable(here) and not is_lazy(here):
                found += 1
                yield here
        elif isinstance(here, nn.Module):
            waiting += [(tensor, depth) for tensor in (*here.parameters(), *here.buffers())]
        elif isinstance(here, Mapping):
            waiting += [(item, depth) for item in here.values()]
        elif isinstance(here, list | tuple):
            waiting += [(item, depth) for item in here]
        elif depth < _DEEP and hasattr(here, "__dict__") and not isinstance(here, type):
            waiting += [(item, depth + 1) for item in vars(here).values()]
