"""What several callbacks ask about an optimizer and the step that it is about to take."""

from __future__ import annotations

import gc
import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel

from lightning_debugkit.core.compat import LightningModule, LightningOptimizer, Trainer, both_packages, is_fit
from lightning_debugkit.core.sharding import unwrapped_name
from lightning_debugkit.stats.tensor_norms import alike, are_short, is_readable

T = TypeVar("T")
_SAMPLED = 16
# What optimizers call the running mean of squared gradients that they divide by.
_SECOND_MOMENTS = {"exp_avg_sq", "exp_inf", "square_avg", "sum", "max_exp_avg_sq", "exp_avg_sq_row"}


def raw(optimizer: Optimizer | LightningOptimizer) -> Optimizer:
    """Return the torch optimizer inside of Lightning's."""
    if isinstance(optimizer, both_packages(LightningOptimizer)):
        inner: Optimizer = optimizer.optimizer
        return inner
    return optimizer  # type: ignore[return-value]  # what is left is torch's own


def alive(kind: type[T]) -> list[T]:
    """Return all objects of a class, wherever a program keeps them; asked seldom, as it takes a while."""
    return [each for each in gc.get_objects() if issubclass(type(each), kind)]


def is_adaptive(optimizer: Optimizer) -> bool:
    """Tell whether the optimizer divides by the size of its gradients: their common scale then does not matter.

    Its state says so, from the first step on.
    """
    return any(_SECOND_MOMENTS & set(state) for state in optimizer.state.values() if isinstance(state, dict))


def held_by(optimizers: Iterable[Optimizer]) -> set[int]:
    """Return the parameters that any of the optimizers holds, by ``id``."""
    return {id(p) for optimizer in optimizers for p in held_in(optimizer)}


def held_in(optimizer: Optimizer) -> Iterator[Tensor]:
    """Yield the parameters of an optimizer, of all its groups."""
    return (p for group in optimizer.param_groups for p in group["params"])


def trains_all(trainer: Trainer) -> bool:
    """Tell whether one optimizer trains all there is, as where no network is another's adversary."""
    held, parameters = held_by(trainer.optimizers), trainer.lightning_module.parameters()
    return len(trainer.optimizers) == 1 and all(p.requires_grad and id(p) in held for p in parameters)


def averages_in(module: nn.Module) -> set[int]:
    """Return the parameters of averages (``AveragedModel``), by ``id``: they move without a gradient."""
    return {id(p) for part in module.modules() if isinstance(part, AveragedModel) for p in part.parameters()}


def rate_of(group: Mapping[str, Any]) -> float:
    """Return the learning rate of a group of parameters, NaN where its optimizer knows none.

    >>> rate_of({"lr": 0.1}), rate_of({})
    (0.1, nan)
    """
    try:
        return float(group["lr"])
    except (KeyError, TypeError, ValueError, RuntimeError):
        return math.nan


@dataclass(eq=False)
class ParameterList:
    """The parameters of an optimizer, in its order, and what is decided once for all of them."""

    names: list[str]  # dotted path of each
    parameters: list[Tensor]  # those that can be looked at
    groups: list[int]  # of each, the place of its group among the optimizer's

    @cached_property
    def dims(self) -> list[int]:
        """Number of dimensions of each."""
        return [p.ndim for p in self.parameters]

    @cached_property
    def layers(self) -> list[str]:
        """Path of the module that holds each."""
        return [name.rpartition(".")[0] or name for name in self.names]

    @cached_property
    def used_groups(self) -> frozenset[int]:
        """The groups that have parameters."""
        return frozenset(self.groups)

    @cached_property
    def alike(self) -> frozenset[torch.dtype]:
        """Their types of numbers where all are dense, of one device and of torch's own classes; else nothing.

        Autograd gives gradients of the same type and device; only sparse ones are of another kind.
        """
        return alike(self.parameters) if self.parameters else frozenset()

    @cached_property
    def sizes(self) -> list[int]:
        """Number of entries of each."""
        return [p.numel() for p in self.parameters]

    @cached_property
    def are_short(self) -> bool:
        """Whether norms of such tensors take least time from a copy of all their entries, of at most 32 bits each."""
        return bool(self.alike) and torch.float64 not in self.alike and are_short(self.parameters)

    @cached_property
    def sample(self) -> list[Tensor]:
        """A few of them, evenly spread: their versions tell of code that writes to weights."""
        return self.parameters[:: max(1, len(self.parameters) // _SAMPLED)]

    @cached_property
    def types(self) -> frozenset[torch.dtype]:
        """Their types of numbers."""
        return frozenset(p.dtype for p in self.parameters)


def has_entries(parameter: Tensor) -> bool:
    """Tell whether there is, or is going to be, anything in a parameter that can train or break."""
    return is_lazy(parameter) or parameter.numel() > 0


class Parameters:
    """The parameters of each optimizer, looked up anew only when its groups have changed."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[tuple[int, ...], ParameterList]] = {}
        self.unread: set[str] = set()  # classes of parameters whose numbers cannot be asked for; they are left out

    def of(self, module: LightningModule, optimizer: Optimizer) -> ParameterList:
        """Return the parameters in the optimizer's order."""
        groups = [group["params"] for group in optimizer.param_groups]
        key = tuple(map(id, groups[0] if len(groups) == 1 else itertools.chain.from_iterable(groups)))
        known = self._known.get(id(optimizer))
        if known is None or known[0] != key:
            known = self._known[id(optimizer)] = (key, self._looked_up(module, groups))
        return known[1]

    def _looked_up(self, module: LightningModule, groups: Sequence[Sequence[Tensor]]) -> ParameterList:
        held = [(p, place) for place, group in enumerate(groups) for p in group]
        if any(type(p) is not nn.Parameter for p, _ in held):
            self.unread |= {type(p).__name__ for p, _ in held if not is_readable(p)}
            held = [(p, place) for p, place in held if is_readable(p)]
        paths = {id(p): unwrapped_name(name) for name, p in module.named_parameters()}
        names = [paths.get(id(p), f"(not in the model) {index}") for index, (p, _) in enumerate(held)]
        return ParameterList(names, [p for p, _ in held], [place for _, place in held])


def scaler_of(trainer: Trainer) -> Any:
    """Return the ``GradScaler`` that scales the loss, ``None`` if there is none."""
    scaler = getattr(trainer.precision_plugin, "scaler", None)
    return scaler if scaler is not None and scaler.is_enabled() else None


def is_whole_window(trainer: Trainer) -> bool:
    """Tell whether the window has as many batches as it should: the last one of an epoch may be shorter."""
    window = trainer.accumulate_grad_batches
    return window == 1 or trainer.fit_loop.epoch_loop.batch_progress.current.ready % window == 0


def epoch_of(trainer: Trainer) -> int:
    """Return the epoch in progress; where no fit runs, the last that one began, as Lightning has counted on by then."""
    if is_fit(trainer):
        return trainer.current_epoch
    return max(trainer.fit_loop.epoch_progress.current.ready - 1, 0)
