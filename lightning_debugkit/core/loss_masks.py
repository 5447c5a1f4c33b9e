"""Which answers a step leaves out of its loss by arithmetic: losses of single answers, followed to what they become."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from lightning_debugkit.core.compat import DisableTorchFunction

# Operations that move numbers about: done to the places of the losses, they tell where each has come to be.
_MOVES = {
    "view", "reshape", "flatten", "unflatten", "squeeze", "unsqueeze", "transpose", "permute", "movedim", "moveaxis",
    "swapaxes", "t", "ravel", "view_as", "reshape_as", "expand", "expand_as",
}  # fmt: skip
_PRODUCTS = {"mul", "multiply", "__mul__", "__rmul__", "__imul__", "mul_", "dot", "inner"}
_FILLS = {"__setitem__", "masked_fill_", "masked_fill"}
_RANKS = {"topk", "sort", "kthvalue", "msort"}  # the hardest are picked: nothing is unknown
_SUMS = {"sum", "mean", "nansum", "nanmean"}
# An answer of weight 0: above this loss it was left out, below it may have been too easy, as with the focal loss.
_HARD = 1e-3


@dataclass(frozen=True)
class _Followed:
    """A tensor that is made of the losses of single answers."""

    tensor: Tensor  # the tensor, kept so that its id is not given to another
    call: int  # number of the loss call
    places: Tensor  # for each of its entries, the number of its group
    groups: Tensor  # for each answer, the number of its group


class LossMasks:
    """Follows what loss functions return with ``reduction="none"`` to the step's loss, and keeps what is left out.

    A mask that was made of the losses themselves leaves out nothing that is unknown: it picks hard examples.
    """

    def __init__(self) -> None:
        self.counted: dict[int, Tensor] = {}  # by call: which answers count, in the shape of the losses
        self.reached: set[int] = set()  # calls whose losses were followed to a sum
        self.single: set[int] = set()  # calls with a loss for each answer
        self._losses: dict[int, Tensor] = {}
        self._followed: dict[int, _Followed] = {}
        self._derived: dict[int, Tensor] = {}

    @property
    def is_following(self) -> bool:
        """Whether there are losses to follow."""
        return bool(self._followed)

    def begin(self, call: int, losses: Any) -> None:
        """Begin to follow the losses of a call, if there is one for each answer."""
        if not isinstance(losses, Tensor) or not losses.dim() or losses.numel() < 2:
            return
        with DisableTorchFunction():
            places = torch.arange(losses.numel(), device=losses.device)
            self.single.add(call)
            self._losses[call] = losses.detach().clone()
            self._keep(_Followed(losses, call, places.view(losses.shape), places))

    def weighed(self, call: int, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """Leave out the answers that a loss function was told to weigh nothing, each having a weight of its own."""
        given = dict(zip(("input", "target", "weight"), args, strict=False)) | dict(kwargs)
        scores, target, weight = given["input"].detach(), given["target"].detach(), given.get("weight")
        if not isinstance(weight, Tensor) or weight.numel() < 2:
            return
        with DisableTorchFunction():
            zero = (weight.detach() == 0).expand(target.shape)
            is_mask = bool(((weight == 0) | (weight == 1)).all())
            if not is_mask:
                plain = func(scores, target, reduction="none")
                is_mask = bool((zero & (plain > _HARD)).any())
            if is_mask and bool(zero.any()):
                self.counted[call] = ~zero

    def saw(self, name: str, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], result: Any) -> None:
        """Take note of a call of torch."""
        if not self._followed:
            return
        given = [each for each in (*args, *kwargs.values()) if isinstance(each, Tensor)]
        given += [each for held in args if isinstance(held, tuple | list) for each in held if isinstance(each, Tensor)]
        mine = next((held for each in given if (held := self._of(each)) is not None), None)
        if mine is None:
            if any(id(each) in self._derived for each in given) and isinstance(result, Tensor):
                self._derived[id(result)] = result
            return
        with DisableTorchFunction(), contextlib.suppress(RuntimeError, IndexError, TypeError, ValueError):
            self._follow(name, func, args, kwargs, mine, result)

    def _of(self, tensor: Tensor) -> _Followed | None:
        held = self._followed.get(id(tensor))
        return held if held is not None and held.tensor is tensor else None

    def _keep(self, followed: _Followed) -> None:
        self._followed[id(followed.tensor)] = followed

    def _follow(
        self, name: str, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], mine: _Followed, result: Any
    ) -> None:
        if name in _FILLS:
            self._filled(name, args, kwargs, mine, result)
        elif name in _RANKS:
            self.reached.add(mine.call)
        elif isinstance(result, Tensor):
            self._made(name, func, args, kwargs, mine, result)

    def _made(
        self, name: str, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], mine: _Followed, result: Tensor
    ) -> None:
        if name in ("__getitem__", "masked_select", "index_select", "take", "compress"):
            self._picked(name, func, args, kwargs, mine, result)
        elif name in _PRODUCTS:
            self._multiplied(args, kwargs, mine, result)
        elif name == "where" and len(args) == 3:
            self._chosen(args, mine, result)
        elif name in _SUMS:
            self._summed(args, kwargs, mine, result)
        elif name in _MOVES and args and args[0] is mine.tensor:
            self._keep(replace(mine, tensor=result, places=func(mine.places, *args[1:], **kwargs)))
        elif result.dtype == torch.bool or not result.is_floating_point():
            self._derived[id(result)] = result
        elif result.shape == mine.tensor.shape:
            self._keep(replace(mine, tensor=result))

    def _filled(
        self, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any], mine: _Followed, result: Any
    ) -> None:
        where, value = (*args[1:3], kwargs.get("mask"), kwargs.get("value"))[:2]
        after = mine.tensor if name == "__setitem__" else result
        if args[0] is mine.tensor and isinstance(where, Tensor) and where.dtype == torch.bool and _is_zero(value):
            self._leave_out(mine, where.expand(mine.places.shape), where)
        if isinstance(after, Tensor) and after.shape == mine.places.shape:
            self._keep(replace(mine, tensor=after))

    def _picked(
        self, name: str, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], mine: _Followed, result: Tensor
    ) -> None:
        if args[0] is not mine.tensor:
            return
        places = func(mine.places, *args[1:], **kwargs)
        picks = [each for each in (*args[1:], *kwargs.values()) if isinstance(each, Tensor)]
        if not any(id(each) in self._derived for each in picks):
            gone = torch.ones(mine.places.numel(), dtype=torch.bool, device=places.device)
            known = torch.isin(mine.places.flatten(), places.flatten())
            gone[known] = False
            self._leave_out(mine, gone.view(mine.places.shape), None)
        self._keep(replace(mine, tensor=result, places=places))

    def _multiplied(self, args: tuple[Any, ...], kwargs: Mapping[str, Any], mine: _Followed, result: Tensor) -> None:
        factors = [each for each in (*args, *kwargs.values()) if isinstance(each, Tensor) and each is not mine.tensor]
        places = mine.places
        if factors and self._of(factors[0]) is None and factors[0].dim():
            shape = torch.broadcast_shapes(factors[0].shape, places.shape)
            if shape == places.shape:
                self._weigh(mine, factors[0].detach().expand(shape), factors[0])
        if result.shape == places.shape:
            self._keep(replace(mine, tensor=result))
        elif not result.dim():
            self.reached.add(mine.call)

    def _weigh(self, mine: _Followed, weights: Tensor, factor: Tensor) -> None:
        zero = weights == 0
        is_mask = weights.dtype == torch.bool or bool(((weights == 0) | (weights == 1)).all())
        if not is_mask:
            hard = self._losses[mine.call].flatten() > _HARD
            each = mine.groups
            of_group = torch.zeros(int(each.max()) + 1, dtype=torch.bool, device=hard.device)
            of_group[each[(each >= 0) & hard]] = True
            is_mask = bool((of_group[mine.places] & zero).any())
        if is_mask:
            self._leave_out(mine, zero, factor)

    def _chosen(self, args: tuple[Any, ...], mine: _Followed, result: Tensor) -> None:
        where, one, other = args
        if isinstance(where, Tensor) and result.shape == mine.places.shape:
            if one is mine.tensor and _is_zero(other):
                self._leave_out(mine, ~where.expand(result.shape), where)
            elif other is mine.tensor and _is_zero(one):
                self._leave_out(mine, where.expand(result.shape), where)
            self._keep(replace(mine, tensor=result))

    def _summed(self, args: tuple[Any, ...], kwargs: Mapping[str, Any], mine: _Followed, result: Tensor) -> None:
        if args[0] is not mine.tensor or not result.dim():
            self.reached.add(mine.call)
            return
        dim = kwargs.get("dim", args[1] if len(args) > 1 else None)
        keep = kwargs.get("keepdim", args[2] if len(args) > 2 else False)
        new = torch.arange(result.numel(), device=result.device).view(result.shape)
        dims = dim if isinstance(dim, tuple | list) else (dim,)
        wide = new
        if not keep:
            for each in sorted(int(one) % mine.places.dim() for one in dims):
                wide = wide.unsqueeze(each)
        table = torch.full((int(mine.places.max()) + 1,), -1, device=result.device)
        table[mine.places.flatten()] = wide.expand(mine.places.shape).flatten()
        known = (mine.groups >= 0) & (mine.groups < len(table))
        groups = torch.where(known, table[mine.groups.clamp(0, len(table) - 1)], -1)
        self._keep(replace(mine, tensor=result, places=new, groups=groups))

    def _leave_out(self, mine: _Followed, which: Tensor, made_by: Tensor | None) -> None:
        if made_by is not None and id(made_by) in self._derived:
            return
        gone = mine.places[which]
        losses = self._losses[mine.call]
        counted = self.counted.get(mine.call, torch.ones(losses.shape, dtype=torch.bool, device=losses.device))
        self.counted[mine.call] = counted & ~torch.isin(mine.groups, gone).view(losses.shape)


def _is_zero(value: Any) -> bool:
    if isinstance(value, Tensor):
        return value.numel() > 0 and not bool(value.any())
    return isinstance(value, int | float) and value == 0
