"""What the autograd graph of a loss reaches, and where on the way from a parameter the gradient is lost."""

from __future__ import annotations

import itertools
import math
import sys
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode, resolve_name

from lightning_debugkit.core.compat import DisableTorchFunction, next_sequence_number
from lightning_debugkit.core.isolation import isolated
from lightning_debugkit.data.batches import tensors
from lightning_debugkit.replay.diagnosis import ReplayStep
from lightning_debugkit.replay.source_lines import SourceLine, place_of
from lightning_debugkit.replay.trace import Silent

# Piecewise constant or saturating: here a gradient that is zero everywhere is the operation's doing. Elsewhere (a
# product with a zero weight or mask, an index) it is the value's, as with an idle expert or a zero-initialised factor.
_FLAT = ("Floor", "Ceil", "Round", "Trunc", "Sign", "Sgn", "Heaviside")
_NEAR = 8  # operations from a softmax to the sum of what it weighs
# They read the shape of what they are given, not its values: a branch that they stand in for is left out, not cut off.
_OF_SHAPE = frozenset(
    f"{kind}_like" for kind in ("zeros", "ones", "full", "empty", "rand", "randn", "randint")
) | frozenset(("new_zeros", "new_ones", "new_full", "new_empty"))
_SATURATING = ("Relu", "Threshold", "Softmax", "Sigmoid", "Tanh", "Clamp", "Hardtanh", "Hardsigmoid")


def reached(loss: Tensor) -> dict[int, Tensor]:
    """Return the leaf tensors that a backward from ``loss`` gives a gradient to, by ``id``."""
    found = {}
    for node in nodes(loss.grad_fn):
        leaf = getattr(node, "variable", None)
        if isinstance(leaf, Tensor):
            found[id(leaf)] = leaf
    return found


def nodes(root: Any) -> Iterator[Any]:
    """Yield the operations that a backward from ``root``, a ``grad_fn`` or none, comes to, each once."""
    waiting, seen = [root] if root is not None else [], set()
    while waiting:
        node = waiting.pop()
        if node in seen:
            continue
        seen.add(node)
        yield node
        waiting.extend(parent for parent, _ in node.next_functions if parent is not None)


@dataclass(eq=False)
class GraphCall:
    """One torch function called by the step."""

    index: int
    name: str
    place: SourceLine
    inputs: list[tuple[Tensor, GraphCall | None]]
    cuts: bool  # an input carries a gradient, no output does
    escapes: bool  # a tensor became plain numbers
    off: str = ""  # why gradients are off: ``checkpoint`` (reentrant, of frozen inputs) or the number of the region


@dataclass
class Wiring:
    """How the parameters of a model are wired to its loss in one step."""

    used: set[int] = field(default_factory=set)  # tensors that took part in any function, by `id`
    first_use: dict[int, SourceLine] = field(default_factory=dict)  # where each was used first
    reached: dict[int, Tensor] = field(default_factory=dict)  # leaf tensors that the loss gives a gradient to, by `id`
    # for a parameter that was used but is not reached: where its way to the loss is cut
    cuts: dict[int, GraphCall] = field(default_factory=dict)
    # for a parameter whose gradient is exactly zero: the operation that makes it so, and whether it does always
    zeros: dict[int, tuple[str, SourceLine, bool]] = field(default_factory=dict)
    # of these, the parameters behind a softmax over a dimension of size 1, and whether that is the one in which it was
    # to choose
    one_entry: dict[int, bool] = field(default_factory=dict)


class GraphFlow(TorchFunctionMode):
    """Record which function made which tensor of which others."""

    def __init__(self, names: Mapping[int, str]) -> None:
        super().__init__()
        self.names = names
        self.calls: list[GraphCall] = []
        self.maker: dict[int, GraphCall] = {}
        self._alive: list[Tensor] = []
        self._regions, self._is_on = 0, True  # in which gradients are off
        self.by_number: dict[int, GraphCall] = {}  # autograd sequence number

    def _off(self) -> str:
        """Return the region in which gradients are off, empty where they are on."""
        is_on = torch.is_grad_enabled()
        self._regions += self._is_on and not is_on
        self._is_on = is_on
        return "" if is_on else f"region {self._regions}"

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        name = _name(func)
        given = [] if name in _OF_SHAPE else list(tensors((args, kwargs or {})))
        carries = any(tensor.requires_grad for tensor in given)
        makers = [(tensor, self.maker.get(id(tensor))) for tensor in given]
        begin = next_sequence_number()
        result = func(*args, **(kwargs or {}))
        made = list(tensors(result))
        escapes = bool(given) and not made and name in ("item", "tolist", "numpy", "__float__", "__array__")
        if (made and given) or escapes:
            place = place_of(sys._getframe(1), self.names)
            cuts = carries and not any(map(_has_history(given), made))
            call = GraphCall(len(self.calls), name, place, makers, cuts, escapes, self._off())
            outer = _checkpointed(sys._getframe(1)) if cuts and call.off else None
            if outer is not None:
                call.off, call.place = "checkpoint", place_of(outer, self.names)
            self.calls.append(call)
            for tensor in made:
                self.maker[id(tensor)] = call
            for number in range(begin, next_sequence_number()):
                self.by_number.setdefault(number, call)
            self._alive += made  # an id in use cannot be given to another tensor
        return result


def _has_history(given: Sequence[Tensor]) -> Callable[[Tensor], bool]:
    """Return what tells whether a tensor made of ``given`` leads a gradient back; a new leaf does not."""
    known = {id(tensor) for tensor in given}
    return lambda made: made.requires_grad and (made.grad_fn is not None or id(made) in known)


def _checkpointed(frame: FrameType | None) -> FrameType | None:
    """Return the frame of reentrant activation checkpointing that ``frame`` runs in, ``None`` if there is none."""
    while frame is not None:
        code = frame.f_code
        if code.co_name == "forward" and frame.f_globals.get("__name__") == "torch.utils.checkpoint":
            return frame
        frame = frame.f_back
    return None


def wiring(step: ReplayStep, parameters: Sequence[Tensor], of: Container[int] | None = None) -> Wiring:
    """Run ``step`` once more and tell how ``parameters`` are wired to its losses; nothing else changes.

    Args:
        parameters: Those that are asked about.
        of: The backward passes to look at, counted from 1; by default all.

    Raises:
        Exception: Whatever the step raises when it is run once more.
    """
    names = {id(part): name for name, part in step.module.named_modules(remove_duplicate=False)}
    found = Wiring()
    with isolated(step.module):
        step.random.restore()
        flow = GraphFlow(names)

        passes = itertools.count(1)

        def backward(loss: Tensor, *args: Any, **kwargs: Any) -> None:
            if of is not None and next(passes) not in of:
                return
            found.reached.update(reached(loss))
            _find_zeros(found, flow, loss, parameters)
            _find_cuts(found, flow, loss, parameters)

        with Silent(), flow:
            step.run(step.batch, backward)
        for call in flow.calls:
            for tensor, _ in call.inputs:
                found.used.add(id(tensor))
                found.first_use.setdefault(id(tensor), call.place)
    return found


def _find_cuts(found: Wiring, flow: GraphFlow, loss: Tensor, parameters: Iterable[Tensor]) -> None:
    lost = {id(parameter) for parameter in parameters} - found.reached.keys()
    if not lost:
        return
    _blame_calls(found, [call for call in _ancestors(flow.maker.get(id(loss))) if call.cuts], lost)
    if lost - found.cuts.keys():
        # A tensor that was made of plain numbers has no ancestors: what became numbers is to blame.
        escaped = [call for escape in flow.calls if escape.escapes for call in _ancestors(escape)]
        _blame_calls(found, [call for call in escaped if call.cuts or call.escapes], lost)


def _blame_calls(found: Wiring, suspects: Iterable[GraphCall], lost: Container[int]) -> None:
    """Note, for each parameter that is lost, the first call that cuts it off."""
    for call in sorted(suspects, key=lambda call: call.index):
        for tensor, _ in call.inputs:
            for leaf in reached(tensor) if tensor.grad_fn is not None else [id(tensor)]:
                if leaf in lost:
                    found.cuts.setdefault(leaf, call)


def _ancestors(call: GraphCall | None) -> list[GraphCall]:
    waiting, seen = [call] if call is not None else [], {}
    while waiting:
        here = waiting.pop()
        if here.index in seen:
            continue
        seen[here.index] = here
        waiting.extend(maker for _, maker in here.inputs if maker is not None)
    return list(seen.values())


def _find_zeros(found: Wiring, flow: GraphFlow, loss: Tensor, parameters: Sequence[Tensor]) -> None:
    """Run the backward and note, for parameters whose gradient is all zero, the node where it became so."""
    wanted = [p for p in parameters if id(p) in found.reached and p.requires_grad]
    if not wanted:
        return
    quenched: list[Any] = []

    def watch(node: Any) -> Any:
        def hook(down: Sequence[Tensor | None], up: Sequence[Tensor | None]) -> None:
            if _any(up) and not _any(down) and any(grad is not None for grad in down):
                quenched.append(node)

        return node.register_hook(hook)

    handles = [watch(node) for node in nodes(loss.grad_fn) if getattr(node, "variable", None) is None]
    try:
        with DisableTorchFunction():
            grads = torch.autograd.grad(loss, wanted, retain_graph=True, allow_unused=True)
    finally:
        for handle in handles:
            handle.remove()
    for parameter, grad in zip(wanted, grads, strict=True):
        if grad is not None and not _any([grad]):
            _blame(found, flow, loss, parameter, quenched)


def _blame(found: Wiring, flow: GraphFlow, loss: Tensor, parameter: Tensor, quenched: Sequence[Any]) -> None:
    """Note the first node that can quench a gradient by what it is, and lies between ``parameter`` and the loss."""
    for node in quenched:
        name = node.name()
        if name.startswith(_FLAT + _SATURATING) and any(getattr(n, "variable", None) is parameter for n in nodes(node)):
            call = flow.by_number.get(node._sequence_nr())
            place, op = (call.place, call.name) if call else (SourceLine(), name)
            if (is_meant := _is_over_one(node, loss.grad_fn)) is not None:
                found.one_entry[id(parameter)] = is_meant
            found.zeros[id(parameter)] = (op, place, name.startswith(_FLAT))
            return


def _is_over_one(node: Any, root: Any) -> bool | None:
    """Tell whether a softmax over a dimension of size 1, always 1, was meant to choose in it; ``None`` of other nodes.

    Where what it weighs is summed over another dimension, it was meant to choose in that one.
    """
    result, dim = getattr(node, "_saved_result", None), getattr(node, "_saved_dim", None)
    if "Softmax" not in node.name() or not isinstance(result, Tensor) or not isinstance(dim, int) or not result.ndim:
        return None
    if result.shape[_signed(dim)] != 1:
        return None
    summed = _summed_entries(node, root)
    return math.prod(result.shape[1:]) == 1 if summed is None else summed == 1


def _summed_entries(node: Any, root: Any) -> int | None:
    """Return over how many entries the first sum or product runs that uses what ``node`` made, ``None`` if unknown."""
    users: dict[Any, list[Any]] = {}
    for above in nodes(root):
        for below, _ in above.next_functions:
            users.setdefault(below, []).append(above)
    reach = [node]
    for _ in range(_NEAR):
        reach = [above for each in reach for above in users.get(each, ())]
        for above in reach:
            sizes, dims = getattr(above, "_saved_self_sym_sizes", None), getattr(above, "_saved_dim", None)
            if above.name().startswith(("SumBackward1", "MeanBackward1")) and sizes and isinstance(dims, tuple):
                return math.prod(int(sizes[_signed(dim)]) for dim in dims)
            factor = getattr(above, "_saved_self", None) if above.name().startswith("Bmm") else None
            if isinstance(factor, Tensor):
                return int(factor.shape[-1])
    return None


def _signed(dim: int) -> int:
    return dim - (1 << 64) if dim >= 1 << 63 else dim  # torch gives it without a sign


def _any(grads: Iterable[Tensor | None]) -> bool:
    return any(grad is not None and bool(grad.any()) for grad in grads)


def _name(func: Any) -> str:
    """Return the plain name of a torch function, ``data`` for the getter of ``tensor.data``."""
    name = getattr(func, "__name__", "") or str(func)
    if name in ("__get__", "__set__"):
        return (resolve_name(func) or name).split(".")[-2]
    return name
