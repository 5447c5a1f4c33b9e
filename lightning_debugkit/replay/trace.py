"""Watch every operation of a step, and find the one where a number stopped being finite."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from lightning_debugkit.core.compat import TorchDispatchMode, current_autograd_node, next_sequence_number
from lightning_debugkit.core.name_lists import operation_name
from lightning_debugkit.core.tensor_numbers import numbers, plainly, storage
from lightning_debugkit.data.batches import leaves, tensors
from lightning_debugkit.replay.nonfinite_causes import MATMULS, cause_of, counts, out_of_range
from lightning_debugkit.replay.nonfinite_entries import broken, broken_rows
from lightning_debugkit.replay.source_lines import SourceLine, place_of

# Operations whose output is uninitialised memory: what it holds says nothing.
_UNWRITTEN = {"empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided", "empty_permuted", "resize_"}
_NOWHERE = SourceLine()
# Products whose arguments are no additive masks, as the first of baddbmm may be.
_UNMASKED = frozenset(MATMULS) - {"baddbmm"}
# Operations that overwrite their first argument without reading it.
_OVERWRITING = {"copy_", "fill_", "zero_", "normal_", "uniform_", "bernoulli_", "random_", "exponential_"}


class Communicates(RuntimeError):
    """The step talks to other processes, which do not replay it."""


class Silent(TorchDispatchMode):
    """Refuse collectives: the other ranks are not in them."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch leaves it untyped

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func.namespace in ("c10d", "_c10d_functional"):
            raise Communicates(f"the step communicates with other processes ({func})")
        return func(*args, **(kwargs or {}))


@dataclass(eq=False)
class Born:
    """A non-finite result, and the non-finite results it was made of."""

    index: int  # position among all that was seen
    op: str  # operation such as `aten.log.default`, empty for a tensor that came from outside of the step
    place: SourceLine
    nan: bool  # it holds NaN
    inf: bool  # it holds infinities
    parents: list[Born] = field(default_factory=list)  # non-finite arguments
    given: bool = False  # the operation was handed a non-finite number on purpose, such as a mask value
    backward: str = ""  # name of the autograd node, empty in the forward pass
    backward_source: str = ""  # the user's line in the backward of a custom autograd function
    # what a tensor from outside is: `("input" | "parameter" | "buffer" | "constant", path)`
    label: tuple[str, str] = ("", "")
    cause: str = ""  # why the operation breaks on what it was given, as `cause_of` has it
    # largest size among its arguments that are parameters, and among the others
    reach: tuple[float, float] | None = None
    rows: list[int] = field(default_factory=list)  # entries of its first dimension that are not finite
    size: int = 0  # size of its first dimension

    @property
    def deliberate(self) -> bool:
        """Tell whether this is an infinity that the code put there by name, such as ``masked_fill(mask, -inf)``."""
        if self.nan:
            return False
        if self.given:
            return True
        return bool(self.parents) and all(parent.deliberate for parent in self.parents)


@dataclass(eq=False)
class Forward:
    """An operation of the forward pass, for the backward pass that comes of it."""

    op: str
    place: SourceLine
    cause: str = ""


@dataclass(frozen=True)
class Raised:
    """An operation that raised an error."""

    op: str
    place: SourceLine
    values: str
    parents: Sequence[Born]


def first_born(records: Iterable[Born]) -> Born | None:
    """Return where the first of some non-finite results was born, ``None`` if there are none."""
    return min(map(_origin, records), key=lambda born: born.index, default=None)


def _origin(last: Born) -> Born:
    """Walk from a non-finite result to where it was born.

    NaN is followed to the operation that made it from numbers; from there infinities are followed to theirs, unless
    they were put there on purpose, as attention masks are. No mask is multiplied by a matrix.
    """
    seen: set[int] = set()
    while last.index not in seen:
        seen.add(last.index)
        guilty = [parent for parent in last.parents if parent.nan] if last.nan else []
        is_product = last.nan and not last.backward and operation_name(last.op) in _UNMASKED
        guilty = guilty or [parent for parent in last.parents if parent.inf and (is_product or not parent.deliberate)]
        if guilty:
            last = min(guilty, key=lambda parent: parent.index)
    return last


class Trace(Silent):
    """Record each operation that gives a non-finite result.

    Args:
        names: Dotted path of each module, by ``id``.
        outside: Tensors from outside of the step, as ``(kind, path, tensor)``.
    """

    def __init__(self, names: Mapping[int, str], outside: Iterable[tuple[str, str, Tensor]]) -> None:
        super().__init__()
        self.names = names
        self.in_backward = False
        self.born: list[Born] = []
        self._outside = list(outside)  # kept: what the step drops would leave its address to another tensor
        # The first name stands: a tensor of the batch may be kept by the model, too.
        named = reversed([each for each in self._outside if each[2].numel()])
        self._labels = {storage(tensor): (kind, path) for kind, path, tensor in named}
        self._writers: dict[int, Born] = {}
        self._alive: list[Tensor] = []  # an address in use cannot be given to another tensor
        self._forward: dict[int, Forward] = {}  # by autograd sequence number
        self.raised: Raised | None = None
        self.cast: Born | None = None  # of a number that is not finite to an integer
        self._counts: set[int] = set()  # sums of masks that select nothing in some place
        self.chooses = False  # between branches, by torch.where
        self.masked: SourceLine | None = None  # where all that is NaN is multiplied by 0
        self.unread: set[str] = set()  # types of tensors whose numbers nobody can look at

    @property
    def unmeant(self) -> list[Born]:
        """What broke, but for infinities that were put there on purpose."""
        return [born for born in self.born if born.nan or not born.deliberate]

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        name = func.__name__.partition(".")[0]
        place, forward = self._enter(func)
        changes = func._schema.is_mutable
        before = self._parents(func, args, kwargs, place) if changes else None
        try:
            result = super().__torch_dispatch__(func, types, args, kwargs)
        except Exception:
            parents = self._parents(func, args, kwargs, place) if before is None else before
            self.raised = Raised(str(func), place, out_of_range(name, *plainly((args, kwargs))), parents)
            raise
        cause = ""
        if forward is not None:
            cause = forward.cause = self._cause(name.removesuffix("_"), args, kwargs, result)
            if cause == "masked":
                self.masked = self.masked or place
        if name not in _UNWRITTEN and name != "detach":  # it is the same tensor
            self._see(func, args, kwargs, result, place, before, cause)
        return result

    def _see(
        self,
        func: Any,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        result: Any,
        place: SourceLine,
        before: list[Born] | None,
        cause: str,
    ) -> None:
        """Record what of the result of ``func`` is not finite."""
        is_written = func.__name__.startswith("lift_fresh")  # numbers of Python become a tensor
        for tensor in tensors(result):
            nan, inf = broken(tensor)
            if numbers(tensor) is None:
                self.unread.add(type(tensor).__name__)
            if nan or inf:
                parents = self._parents(func, args, kwargs, place) if before is None else before
                if is_written:
                    parents = [parent for parent in parents if parent.label[0] != "constant"]
                given = _is_given((args, kwargs)) or (is_written and not parents)
                born = self._record(tensor, func, place, nan, inf, parents, given)
                born.cause = born.cause or cause
                if not parents:
                    born.reach = self._reach(args)
            elif func.__name__.startswith("_to_copy") and not tensor.is_floating_point():
                parents = self._parents(func, args, kwargs, place)
                self.cast = next((parent for parent in parents if parent.nan), self.cast)

    def writer(self, tensor: Tensor) -> Born | None:
        """Return the record of the operation that last made ``tensor`` non-finite, ``None`` if it is finite."""
        nan, inf = broken(tensor)
        return (self._writers.get(storage(tensor)) or self._from_outside(tensor, nan, inf)) if nan or inf else None

    def _enter(self, func: Any) -> tuple[SourceLine, Forward | None]:
        place = place_of(sys._getframe(2), self.names)
        if self.in_backward:
            return place, None
        # The node of this operation was made just before it was dispatched.
        here = Forward(str(func), place)
        self._forward.setdefault(next_sequence_number() - 1, here)
        return place, here

    def _record(
        self, tensor: Tensor, func: Any, place: SourceLine, nan: bool, inf: bool, parents: list[Born], given: bool
    ) -> Born:
        op, backward, inner, cause = str(func), "", "", ""
        if self.in_backward:
            node = current_autograd_node()
            if node is not None:
                backward = node.name()
                forward = self._forward.get(node._sequence_nr())
                if forward is not None:
                    inner = place.source
                    op, place, cause = forward.op, forward.place, forward.cause
                    if hasattr(node, "_forward_cls"):  # a custom function: the line that applied it, and its own
                        op, place = backward.removesuffix("Backward"), place.applied or place
        born = Born(len(self.born), op, place, nan, inf, parents, given, backward, inner, cause=cause)
        return self._kept(tensor, born)

    def _kept(self, tensor: Tensor, born: Born) -> Born:
        born.size, born.rows = tensor.size(0) if tensor.dim() else 0, broken_rows(tensor)
        self.born.append(born)
        self._writers[storage(tensor)] = born
        self._alive.append(tensor)
        return born

    def _cause(self, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any], result: Any) -> str:
        cause = cause_of(name, *plainly((args, kwargs, result)))
        self.chooses = self.chooses or name == "where"
        if counts(name, *plainly((args, result))) or (name == "_to_copy" and storage(args[0]) in self._counts):
            self._counts.add(storage(result))
            self._alive.append(result)
        is_mask = cause == "zero" and name == "div" and isinstance(args[1], Tensor) and storage(args[1]) in self._counts
        return "mask" if is_mask else cause

    def _reach(self, args: tuple[Any, ...]) -> tuple[float, float]:
        weights, others = 0.0, 0.0
        for tensor in tensors(args):
            if tensor.is_floating_point() and tensor.numel() and tensor.layout is torch.strided:
                plain = numbers(tensor)
                size = 0.0 if plain is None or not plain.numel() else float(plain.detach().abs().max())
                if self._labels.get(storage(tensor), ("",))[0] == "parameter":
                    weights = max(weights, size)
                else:
                    others = max(others, size)
        return weights, others

    def _parents(self, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], place: SourceLine) -> list[Born]:
        parents = []
        for tensor in tensors((_read(func, args), kwargs)):
            nan, inf = broken(tensor)
            if nan or inf:
                parents.append(self._writers.get(storage(tensor)) or self._from_outside(tensor, nan, inf, place))
        return parents

    def _from_outside(self, tensor: Tensor, nan: bool, inf: bool, used: SourceLine = _NOWHERE) -> Born:
        kind, path = self._labels.get(storage(tensor), ("constant", ""))
        # An attention mask of -inf may come with the batch or lie in a buffer; a constant infinity was written by hand.
        meant = not nan and (kind == "constant" or (kind != "parameter" and _is_mask(tensor, kind == "input")))
        born = Born(len(self.born), "", used, nan, inf, given=meant, label=(kind, path))
        return self._kept(tensor, born)


def _read(func: Any, args: tuple[Any, ...]) -> Sequence[Any]:
    """Return the arguments that the result of ``func`` is made of."""
    name = func.__name__.partition(".")[0]
    if name in _OVERWRITING:
        return args[1:]
    if "batch_norm" in name:
        named = {argument.name: value for argument, value in zip(func._schema.arguments, args, strict=False)}
        if named.get("training", named.get("train", True)):
            # In training the running statistics are only written to, by the very batch that may be broken.
            return [value for key, value in named.items() if not key.startswith("running_")]
    return args


def _is_mask(tensor: Tensor, is_data: bool) -> bool:
    """Tell whether a tensor with infinities may be an additive mask; among data, one has nothing but zeros besides."""
    plain = numbers(tensor)
    if plain is None or bool((plain == math.inf).any()):
        return False
    return not is_data or not bool(((plain != 0) & torch.isfinite(plain)).any())


def _is_given(tree: Any) -> bool:
    return any(isinstance(leaf, float) and not math.isfinite(leaf) for _, leaf in leaves(tree))
